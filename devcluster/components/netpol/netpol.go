// Package netpol enforces NetworkPolicy on one node: whenever a pod, namespace or policy changes it renders one nftables
// table and loads it in a single transaction.
//
// It needs a CNI that routes every pod packet through the node (ptp), or br_netfilter with a bridge. The forward hook sees pod to
// pod and pod to outside (after kube-proxy's DNAT), the input hook pod to the node itself (the API server). Traffic from the node
// to its own pods (probes) is never filtered. IPv4 only. A new pod is open until its first sync, about 0.1 s; connections that
// are already established are not cut.
package netpol

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	netlisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// settle is how long further changes are waited for, so that a burst of them is one load.
const settle = 50 * time.Millisecond

// Run watches and enforces until the process ends.
func Run(args []string) error {
	set := flag.NewFlagSet("netpol", flag.ContinueOnError)
	kubeconfig := set.String("kubeconfig", "", "path of a kubeconfig that may list pods, namespaces and networkpolicies")
	if err := set.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces, policies := factory.Core().V1().Pods(), factory.Core().V1().Namespaces(), factory.Networking().V1().NetworkPolicies()
	kick := make(chan struct{}, 1)
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(onChange(kick)); err != nil {
			return err
		}
	}
	ctx := context.Background()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	last := ""
	for {
		seen, list, err := observe(pods.Lister(), namespaces.Lister(), policies.Lister())
		if err != nil {
			return err
		}
		if text := seen.render(list); text != last {
			if err := load(ctx, text); err != nil {
				log.Printf("%v\n%s", err, text)
			} else {
				log.Printf("loaded %d policies, %d bytes", len(list), len(text))
				last = text
			}
		}
		<-kick
		time.Sleep(settle)
	}
}

func onChange(kick chan<- struct{}) cache.ResourceEventHandler {
	changed := func() {
		select {
		case kick <- struct{}{}:
		default: // a look at everything is due already
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		DeleteFunc: func(any) { changed() },
		UpdateFunc: func(before, after any) {
			if p, ok := before.(*corev1.Pod); ok { // status heartbeats do not matter, addresses and labels do
				q := after.(*corev1.Pod)
				if p.Status.PodIP == q.Status.PodIP && p.Status.Phase == q.Status.Phase && labels.Equals(p.Labels, q.Labels) {
					return
				}
			}
			changed()
		},
	}
}

func observe(pods corelisters.PodLister, namespaces corelisters.NamespaceLister, policies netlisters.NetworkPolicyLister) (*rules, []*netv1.NetworkPolicy, error) {
	seen := &rules{ns: map[string]labels.Set{}}
	everyNamespace, err := namespaces.List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	for _, namespace := range everyNamespace {
		seen.ns[namespace.Name] = namespace.Labels
	}
	everyPod, err := pods.List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	for _, pod := range everyPod {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !ended {
			seen.pods = append(seen.pods, pod)
		}
	}
	sort.Slice(seen.pods, func(i, j int) bool { return seen.pods[i].Status.PodIP < seen.pods[j].Status.PodIP })
	list, err := policies.List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	sort.Slice(list, func(i, j int) bool {
		return list[i].Namespace+"/"+list[i].Name < list[j].Namespace+"/"+list[j].Name
	})
	return seen, list, nil
}

func load(ctx context.Context, text string) error {
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(text)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}
