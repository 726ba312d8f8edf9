// devcluster is every Go program of the dev cluster in one binary: the first argument chooses, or the name it is called under.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"agentservice.dev/devcluster/judges"
	"agentservice.dev/devcluster/netpol"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	// Only the CoreDNS plugins that the Corefile uses; each further one is compiled in.
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	helmcmd "helm.sh/helm/v4/pkg/cmd"
	helmkube "helm.sh/helm/v4/pkg/kube"
	genericapiserver "k8s.io/apiserver/pkg/server"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

const usage = "usage: devcluster etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kube-proxy|coredns|metrics-server|netpol|helm|kubectl|kstatus|argohealth [flags]"

func main() {
	args := os.Args
	name := filepath.Base(args[0])
	if name == "devcluster" {
		if len(args) < 2 {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		args = args[1:]
		name = args[0]
	}
	rest := args[1:]
	os.Args = append([]string{name}, rest...)
	var c *cobra.Command
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "coredns":
		// the order in which plugins see a query: kubernetes before template, which answers the rest
		dnsserver.Directives = []string{"health", "ready", "errors", "log", "loadbalance", "cache", "kubernetes", "template"}
		exitOn(flag.CommandLine.Parse(rest))
		coremain.Run()
		return
	case "helm":
		helmkube.ManagedFieldsManager = "helm"
		h, err := helmcmd.NewRootCmd(os.Stdout, rest, helmcmd.SetupLogging)
		if err != nil {
			slog.Warn("command failed", slog.Any("error", err))
			os.Exit(1)
		}
		if err := h.Execute(); err != nil {
			if ce, ok := errors.AsType[helmcmd.CommandError](err); ok {
				os.Exit(ce.ExitCode)
			}
			os.Exit(1)
		}
		return
	case "kubectl":
		exitOn(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
		return
	case "netpol":
		exitOn(netpol.Run(rest))
		return
	case "kstatus":
		exitOn(judges.Kstatus(rest, os.Stdin, os.Stdout))
		return
	case "argohealth":
		exitOn(judges.ArgoHealth(rest, os.Stdin, os.Stdout))
		return
	case "kube-apiserver":
		c = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		c = kcm.NewControllerManagerCommand()
	case "kube-scheduler":
		c = scheduler.NewSchedulerCommand()
	case "kubelet":
		c = kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		c = kubeproxy.NewProxyCommand()
	case "metrics-server":
		c = metricsserver.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())
	default:
		fmt.Fprintln(os.Stderr, "unknown component", name)
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	c.SetArgs(rest)
	os.Exit(cli.Run(c))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
