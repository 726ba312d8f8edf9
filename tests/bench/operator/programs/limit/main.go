// Command limit sends what an operator has to send, without being one: no watch, no logic, no rate limit, every body serialised
// before the clock starts. What the API server takes of it is the physical limit of any operator that writes the same.
//
//	-mode apply      the custom resources, then what is made of them by server-side apply, then the statuses
//	-mode create     the same, but objects by POST
//	-mode resources  the custom resources alone: the load that an operator is measured under
//	-mode patch      -patch, a JSON merge patch, to each custom resource: one field changed on all
//	-mode delete     every object of -bodies in the namespace is deleted (after a warm-up)
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	applyType = "application/apply-patch+yaml"
	mergeType = "application/merge-patch+json"
	jsonType  = "application/json"
)

// object is one body as the operator under test sends it, and the collection it belongs to.
type object struct {
	Path        string          `json:"path"`
	Manager     string          `json:"manager"`
	Subresource string          `json:"subresource"`
	Merge       bool            `json:"merge"` // by JSON merge patch, never by apply
	Manifest    json.RawMessage `json:"manifest"`
}

// bodies are the objects of one resource. Placeholder stands wherever its name does.
type bodies struct {
	Placeholder string   `json:"placeholder"`
	Resource    object   `json:"resource"`
	Objects     []object `json:"objects"`
	Statuses    []object `json:"statuses"`
}

type request struct {
	method, url, contentType string
	body                     []byte
}

type sender struct {
	clients []*http.Client
	workers int
}

// send sends all requests and returns how long that took and how many failed.
func (s sender) send(requests []request) (time.Duration, int64) {
	var next, failed atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for worker := range s.workers {
		group.Go(func() {
			client := s.clients[worker%len(s.clients)]
			for {
				i := int(next.Add(1) - 1)
				if i >= len(requests) {
					return
				}
				if err := requests[i].do(client); err != nil && failed.Add(1) == 1 {
					log.Print(err)
				}
			}
		})
	}
	group.Wait()
	return time.Since(began), failed.Load()
}

func (r request) do(client *http.Client) error {
	q, err := http.NewRequestWithContext(context.Background(), r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", r.contentType)
	q.Header.Set("Accept", jsonType)
	q.Header.Set("User-Agent", "bench-limit")
	response, err := client.Do(q)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %d %.300s", r.method, r.url, response.StatusCode, answer)
	}
	return err
}

func (b bodies) named(body json.RawMessage, name string) []byte {
	return bytes.ReplaceAll(body, []byte(b.Placeholder), []byte(name))
}

func nameOf(body []byte) string {
	var found struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(body, &found); err != nil {
		log.Fatal(err)
	}
	return found.Metadata.Name
}

// rounds returns what is sent one round after the other: the custom resources, what is made of them, the statuses.
func (b bodies) rounds(mode, server, prefix, patch string, n int) [3][]request {
	var sent [3][]request
	if mode == "delete" {
		for _, o := range append([]object{b.Resource}, b.Objects...) {
			sent[0] = append(sent[0], request{"DELETE", server + o.Path, jsonType, nil})
		}
		return sent
	}
	apply := func(o object, name string) request {
		body := b.named(o.Manifest, name)
		url := server + o.Path + "/" + nameOf(body) + "/" + o.Subresource
		if o.Merge {
			return request{"PATCH", url + "?fieldManager=" + o.Manager, mergeType, body}
		}
		return request{"PATCH", strings.TrimRight(url, "/") + "?fieldManager=" + o.Manager + "&force=true", applyType, body}
	}
	for i := range n {
		name := fmt.Sprintf("%s-%05d", prefix, i)
		if mode == "patch" {
			sent[0] = append(sent[0], request{"PATCH", server + b.Resource.Path + "/" + name, mergeType, []byte(patch)})
			continue
		}
		sent[0] = append(sent[0], request{"POST", server + b.Resource.Path, jsonType, b.named(b.Resource.Manifest, name)})
		if mode == "resources" {
			continue
		}
		for _, o := range b.Objects {
			if mode == "create" {
				url := server + o.Path + "?fieldManager=" + o.Manager
				sent[1] = append(sent[1], request{"POST", url, jsonType, b.named(o.Manifest, name)})
			} else {
				sent[1] = append(sent[1], apply(o, name))
			}
		}
		for _, o := range b.Statuses {
			sent[2] = append(sent[2], apply(o, name))
		}
	}
	return sent
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "whose cluster, as whom")
	file := flag.String("bodies", "", "JSON file with the objects of one resource")
	mode := flag.String("mode", "apply", "apply | create | resources | patch | delete")
	patch := flag.String("patch", "{}", "JSON merge patch of -mode patch")
	n := flag.Int("n", 200, "custom resources")
	prefix := flag.String("prefix", "agent", "prefix of their names")
	workers := flag.Int("workers", 50, "requests at a time")
	connections := flag.Int("connections", 1, "HTTP/2 connections")
	flag.Parse()
	text, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	var b bodies
	if err := json.Unmarshal(text, &b); err != nil {
		log.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	trust, err := rest.TLSConfigFor(config)
	if err != nil {
		log.Fatal(err)
	}
	s := sender{workers: *workers}
	for range *connections {
		own := trust.Clone()
		own.NextProtos = []string{"h2"}
		s.clients = append(s.clients, &http.Client{Transport: &http2.Transport{TLSClientConfig: (*tls.Config)(own)}})
	}
	var seconds float64
	var failed int64
	requests := 0
	for _, round := range b.rounds(*mode, strings.TrimRight(config.Host, "/"), *prefix, *patch, *n) {
		took, bad := s.send(round)
		seconds += took.Seconds()
		failed += bad
		requests += len(round)
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"seconds": seconds, "requests": requests, "failed": failed,
		"cpu_seconds": float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9}); err != nil {
		log.Fatal(err)
	}
	if failed > 0 {
		os.Exit(1)
	}
}
