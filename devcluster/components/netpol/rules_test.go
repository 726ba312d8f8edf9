package netpol

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func pod(namespace, name, ip string, l map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: l},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8000, Protocol: corev1.ProtocolTCP}}}}},
		Status: corev1.PodStatus{PodIP: ip},
	}
}

func policy(spec netv1.NetworkPolicySpec) []*netv1.NetworkPolicy {
	return []*netv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: spec}}
}

func TestRendered(t *testing.T) {
	seen := &rules{
		ns: map[string]labels.Set{"a": {"team": "one"}, "b": {"team": "two"}},
		pods: []*corev1.Pod{
			pod("a", "web", "10.0.0.1", map[string]string{"app": "web"}),
			pod("b", "client", "10.0.0.2", map[string]string{"app": "client"}),
		},
	}
	web := metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	named, number, end := intstr.FromString("http"), intstr.FromInt32(9000), int32(9010)
	block := &netv1.IPBlock{CIDR: "10.1.0.0/16", Except: []string{"10.1.2.0/24"}}
	for name, c := range map[string]struct {
		spec netv1.NetworkPolicySpec
		want []string
		not  []string
	}{
		"deny all": {
			spec: netv1.NetworkPolicySpec{PodSelector: web, PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress}},
			want: []string{"chain in0 { # a/web\n  drop\n}", "ip daddr vmap { 10.0.0.1 : jump in0 }"},
			not:  []string{"10.0.0.2"},
		},
		"a named port of the receiving pod, from a namespace": {
			spec: netv1.NetworkPolicySpec{PodSelector: web, PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress},
				Ingress: []netv1.NetworkPolicyIngressRule{{
					From:  []netv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "two"}}}},
					Ports: []netv1.NetworkPolicyPort{{Port: &named}}}}},
			want: []string{"ip saddr { 10.0.0.2 } tcp dport 8000 return"},
		},
		"a block with an exception and a range of ports": {
			spec: netv1.NetworkPolicySpec{PodSelector: web, PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeEgress},
				Egress: []netv1.NetworkPolicyEgressRule{{
					To:    []netv1.NetworkPolicyPeer{{IPBlock: block}},
					Ports: []netv1.NetworkPolicyPort{{Port: &number, EndPort: &end}}}}},
			want: []string{"ip daddr 10.1.0.0/16 ip daddr != { 10.1.2.0/24 } tcp dport 9000-9010 return", "ip saddr vmap { 10.0.0.1 : jump eg0 }"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := seen.render(policy(c.spec))
			for _, part := range c.want {
				if !strings.Contains(got, part) {
					t.Errorf("missing %q in\n%s", part, got)
				}
			}
			for _, part := range c.not {
				if strings.Contains(got, part) {
					t.Errorf("unexpected %q in\n%s", part, got)
				}
			}
		})
	}
}
