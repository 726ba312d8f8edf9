// Package children builds the children of one resource for the baseline operator: of the kinds, and about of the size, that the
// operator under test makes.
package children

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	Group   = "agentservice.dev"
	Version = "v1alpha1"
	Kind    = "AgentService"
	Manager = "bench-operator"
)

// Spec is the part of an AgentService that the children depend on.
type Spec struct {
	Replicas int32 `json:"replicas,omitempty"`
	Agent    struct {
		Instructions string `json:"instructions,omitempty"`
	} `json:"agent"`
	Model struct {
		Name string `json:"name,omitempty"`
	} `json:"model"`
	Network struct {
		Service struct {
			Port int32 `json:"port,omitempty"`
		} `json:"service"`
	} `json:"network"`
}

func ptr[T any](v T) *T { return &v }

// pad returns n bytes of text that depends on seed.
func pad(seed string, n int) string {
	s := strings.Repeat(seed+" lorem ipsum dolor sit amet ", n/(len(seed)+28)+1)
	return s[:n]
}

// Build returns the desired children of the given kinds, in their order.
func Build(kinds []string, ns, name, uid string, s Spec) ([]client.Object, error) {
	labels := map[string]string{
		"app.kubernetes.io/name": "bench-agent", "app.kubernetes.io/instance": name, "app.kubernetes.io/managed-by": Manager,
	}
	selector := map[string]string{"app.kubernetes.io/instance": name}
	meta := metav1.ObjectMeta{Name: name, Namespace: ns, Labels: labels, OwnerReferences: []metav1.OwnerReference{{
		APIVersion: Group + "/" + Version, Kind: Kind, Name: name, UID: types.UID(uid),
		Controller: ptr(true), BlockOwnerDeletion: ptr(true)}}}
	found := make([]client.Object, 0, len(kinds))
	for _, kind := range kinds {
		build, known := builders[kind]
		if !known {
			return nil, fmt.Errorf("the baseline has no child of the kind %s", kind)
		}
		found = append(found, build(meta, selector, s))
	}
	return found, nil
}

func typed(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

type builder func(metav1.ObjectMeta, map[string]string, Spec) client.Object

var builders = map[string]builder{
	"ConfigMap": func(m metav1.ObjectMeta, _ map[string]string, s Spec) client.Object {
		return &corev1.ConfigMap{TypeMeta: typed("v1", "ConfigMap"), ObjectMeta: m, Data: map[string]string{
			"agent.yaml": "model: " + s.Model.Name + "\n", "instructions.md": s.Agent.Instructions}}
	},
	"ServiceAccount": func(m metav1.ObjectMeta, _ map[string]string, _ Spec) client.Object {
		return &corev1.ServiceAccount{TypeMeta: typed("v1", "ServiceAccount"), ObjectMeta: m, AutomountServiceAccountToken: ptr(false)}
	},
	"Service": func(m metav1.ObjectMeta, selector map[string]string, s Spec) client.Object {
		port := s.Network.Service.Port
		if port == 0 {
			port = 80
		}
		return &corev1.Service{TypeMeta: typed("v1", "Service"), ObjectMeta: m, Spec: corev1.ServiceSpec{Selector: selector,
			Ports: []corev1.ServicePort{{Name: "http", Port: port, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}}}}
	},
	"Deployment": deployment,
	"Role": func(m metav1.ObjectMeta, _ map[string]string, _ Spec) client.Object {
		return &rbacv1.Role{TypeMeta: typed("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: m, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{Group}, Resources: []string{"agentledgers"}, ResourceNames: []string{m.Name}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{Group}, Resources: []string{"agentledgers/status"}, ResourceNames: []string{m.Name}, Verbs: []string{"patch"}}}}
	},
	"RoleBinding": func(m metav1.ObjectMeta, _ map[string]string, _ Spec) client.Object {
		return &rbacv1.RoleBinding{TypeMeta: typed("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: m,
			RoleRef:  rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: m.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: m.Name, Namespace: m.Namespace}}}
	},
	"PodDisruptionBudget": func(m metav1.ObjectMeta, selector map[string]string, _ Spec) client.Object {
		return &policyv1.PodDisruptionBudget{TypeMeta: typed("policy/v1", "PodDisruptionBudget"), ObjectMeta: m,
			Spec: policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: selector}}}
	},
	"HorizontalPodAutoscaler": func(m metav1.ObjectMeta, _ map[string]string, s Spec) client.Object {
		return &autoscalingv2.HorizontalPodAutoscaler{TypeMeta: typed("autoscaling/v2", "HorizontalPodAutoscaler"), ObjectMeta: m,
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: ptr(s.Replicas), MaxReplicas: 10,
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: m.Name},
				Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr(int32(70))}}}}}}
	},
	"NetworkPolicy": func(m metav1.ObjectMeta, selector map[string]string, _ Spec) client.Object {
		return &networkingv1.NetworkPolicy{TypeMeta: typed("networking.k8s.io/v1", "NetworkPolicy"), ObjectMeta: m,
			Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: selector},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
				Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{{Port: ptr(intstr.FromInt32(8000)), Protocol: ptr(corev1.ProtocolTCP)}}}},
				Egress:      []networkingv1.NetworkPolicyEgressRule{{}}}}
	},
}

func probe(path string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: path, Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: 10, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3}
}

func deployment(m metav1.ObjectMeta, selector map[string]string, s Spec) client.Object {
	env := []corev1.EnvVar{{Name: "AGENT_NAME", Value: m.Name}, {Name: "AGENT_MODEL", Value: s.Model.Name}}
	for i := range 8 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("AGENT_SETTING_%02d", i), Value: pad(fmt.Sprintf("%s-%d", m.Name, i), 40)})
	}
	return &appsv1.Deployment{TypeMeta: typed("apps/v1", "Deployment"), ObjectMeta: m, Spec: appsv1.DeploymentSpec{
		Replicas: ptr(s.Replicas), Selector: &metav1.LabelSelector{MatchLabels: selector},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: m.Labels}, Spec: corev1.PodSpec{
			ServiceAccountName: m.Name, AutomountServiceAccountToken: ptr(false),
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(1000)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "agent", Image: "registry.example/agentservice-runtime:1", ImagePullPolicy: corev1.PullIfNotPresent, Env: env,
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8000, Protocol: corev1.ProtocolTCP}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")},
					Limits:   corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("512Mi")}},
				StartupProbe: probe("/ready"), LivenessProbe: probe("/health"), ReadinessProbe: probe("/ready"),
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/agent", ReadOnly: true}, {Name: "tmp", MountPath: "/tmp"}}}},
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: m.Name}}}},
				{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}}}}}
}

// Ledger is the AgentLedger of a resource. It has no owner.
func Ledger(ns, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": Group + "/" + Version, "kind": "AgentLedger",
		"metadata": map[string]any{"namespace": ns, "name": name},
		"spec": map[string]any{"timeZone": "UTC", "enforcement": "Hard", "parents": []any{}, "windows": []any{
			map[string]any{"name": "daily", "tokens": int64(2000000), "nanoUSD": int64(25000000000)},
			map[string]any{"name": "monthly", "tokens": int64(40000000), "nanoUSD": int64(400000000000)}}}}}
}

// Accounts is the first status of a ledger, as JSON.
func Accounts() string {
	window := func(name, start, end string) string {
		return fmt.Sprintf(`{"name":%q,"start":%q,"end":%q,"authorizedTokens":0,"authorizedNanoUSD":0,"settledTokens":0,"settledNanoUSD":0,"presumedTokens":0,"presumedNanoUSD":0}`, name, start, end)
	}
	return `{"seeded":true,"windows":[` + window("daily", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z") + `,` +
		window("monthly", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z") + `]}`
}
