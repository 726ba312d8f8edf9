package netpol

import (
	"bytes"
	"fmt"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// rules is what one rendering sees: every namespace's labels and every pod that has an address, in a stable order.
type rules struct {
	ns   map[string]labels.Set
	pods []*corev1.Pod
}

func matches(s *metav1.LabelSelector, l map[string]string) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && sel.Matches(labels.Set(l))
}

func (r *rules) render(policies []*netv1.NetworkPolicy) string {
	var chains bytes.Buffer
	var in, out []string
	for i, p := range r.pods {
		var ing, eg []string
		isIn, isEg := false, false
		for _, pol := range policies {
			if pol.Namespace != p.Namespace || !matches(&pol.Spec.PodSelector, p.Labels) {
				continue
			}
			for _, t := range pol.Spec.PolicyTypes {
				if t == netv1.PolicyTypeIngress {
					isIn = true
					for _, x := range pol.Spec.Ingress {
						ing = append(ing, r.allow("saddr", pol.Namespace, x.From, x.Ports, p)...)
					}
				} else {
					isEg = true
					for _, x := range pol.Spec.Egress {
						eg = append(eg, r.allow("daddr", pol.Namespace, x.To, x.Ports, nil)...)
					}
				}
			}
		}
		add := func(dir string, list []string, verdicts *[]string) {
			fmt.Fprintf(&chains, "chain %s%d { # %s/%s\n%s  drop\n}\n", dir, i, p.Namespace, p.Name, strings.Join(list, ""))
			*verdicts = append(*verdicts, fmt.Sprintf("%s : jump %s%d", p.Status.PodIP, dir, i))
		}
		if isIn {
			add("in", ing, &in)
		}
		if isEg {
			add("eg", eg, &out)
		}
	}
	hook := func(name string, ingress bool) string {
		s := fmt.Sprintf("chain %s { type filter hook %s priority 10; policy accept;\n  ct state established,related accept\n", name, name)
		if len(out) > 0 {
			s += "  ip saddr vmap { " + strings.Join(out, ", ") + " }\n"
		}
		if ingress && len(in) > 0 {
			s += "  ip daddr vmap { " + strings.Join(in, ", ") + " }\n"
		}
		return s + "}\n"
	}
	return "table inet netpol\ndelete table inet netpol\ntable inet netpol {\n" + chains.String() + hook("forward", true) + hook("input", false) + "}\n"
}

// allow renders the rules of one ingress or egress entry; an accepted packet returns to the hook chain.
func (r *rules) allow(dir, ns string, peers []netv1.NetworkPolicyPeer, ports []netv1.NetworkPolicyPort, self *corev1.Pod) []string {
	type dest struct {
		expr string
		pods []*corev1.Pod
	}
	var dests []dest
	if len(peers) == 0 {
		dests = []dest{{"", r.pods}}
	}
	for _, p := range peers {
		if p.IPBlock != nil {
			if _, n, err := net.ParseCIDR(p.IPBlock.CIDR); err != nil || n.IP.To4() == nil {
				continue
			}
			e := fmt.Sprintf("ip %s %s ", dir, p.IPBlock.CIDR)
			if len(p.IPBlock.Except) > 0 {
				e += fmt.Sprintf("ip %s != { %s } ", dir, strings.Join(p.IPBlock.Except, ", "))
			}
			dests = append(dests, dest{e, nil})
			continue
		}
		var ips []string
		var list []*corev1.Pod
		for _, q := range r.pods {
			if p.NamespaceSelector == nil && q.Namespace != ns || p.NamespaceSelector != nil && !matches(p.NamespaceSelector, r.ns[q.Namespace]) {
				continue
			}
			if p.PodSelector != nil && !matches(p.PodSelector, q.Labels) {
				continue
			}
			ips, list = append(ips, q.Status.PodIP), append(list, q)
		}
		if len(ips) > 0 {
			dests = append(dests, dest{fmt.Sprintf("ip %s { %s } ", dir, strings.Join(ips, ", ")), list})
		}
	}
	var res []string
	for _, d := range dests {
		if len(ports) == 0 {
			res = append(res, "  "+d.expr+"return\n")
		}
		for _, p := range ports {
			proto := "tcp"
			if p.Protocol != nil {
				proto = strings.ToLower(string(*p.Protocol))
			}
			switch {
			case p.Port == nil:
				res = append(res, fmt.Sprintf("  %smeta l4proto %s return\n", d.expr, proto))
			case p.Port.IntVal != 0 && p.EndPort != nil:
				res = append(res, fmt.Sprintf("  %s%s dport %d-%d return\n", d.expr, proto, p.Port.IntVal, *p.EndPort))
			case p.Port.IntVal != 0:
				res = append(res, fmt.Sprintf("  %s%s dport %d return\n", d.expr, proto, p.Port.IntVal))
			default: // a named port is looked up in the pod that receives the packet
				targets := d.pods
				if self != nil {
					targets = []*corev1.Pod{self}
				}
				for _, t := range targets {
					for _, c := range t.Spec.Containers {
						for _, cp := range c.Ports {
							if cp.Name != p.Port.StrVal || !strings.EqualFold(string(cp.Protocol), proto) {
								continue
							}
							e := d.expr
							if self == nil {
								e = "ip daddr " + t.Status.PodIP + " "
							}
							res = append(res, fmt.Sprintf("  %s%s dport %d return\n", e, proto, cp.ContainerPort))
						}
					}
				}
			}
		}
	}
	return res
}
