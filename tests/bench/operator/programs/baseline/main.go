// Command baseline is a plain controller-runtime operator for AgentServices: owned children written with server-side apply, a
// status subresource. A child is applied only when its cached copy differs from what is desired, and a write that the cache has
// not seen yet is not repeated.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentservice.dev/bench/children"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const hashAnnotation = "bench.agentservice.dev/desired"

type Status struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type AgentService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              children.Spec `json:"spec,omitempty"`
	Status            Status        `json:"status,omitempty"`
}

type AgentServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AgentService `json:"items"`
}

func (a *AgentService) DeepCopyObject() runtime.Object {
	c := *a
	a.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	c.Status.Conditions = append([]metav1.Condition(nil), a.Status.Conditions...)
	return &c
}

func (l *AgentServiceList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = make([]AgentService, len(l.Items))
	for i := range l.Items {
		c.Items[i] = *l.Items[i].DeepCopyObject().(*AgentService)
	}
	return &c
}

// wrote is what our last write of one object returned.
type wrote struct {
	hash string
	rv   uint64
}

type reconciler struct {
	client.Client
	kinds  []string
	ledger bool     // an AgentLedger with accounts beside the children
	last   sync.Map // "Kind/namespace/name" -> wrote
}

func key(o client.Object) string {
	return reflect.TypeOf(o).String() + "/" + o.GetNamespace() + "/" + o.GetName()
}

func rv(o client.Object) uint64 {
	n, _ := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	return n
}

// pending: we already wrote exactly this and the cache still shows an older version (or nothing).
func (r *reconciler) pending(k, hash string, cached uint64) bool {
	v, ok := r.last.Load(k)
	return ok && v.(wrote).hash == hash && cached < v.(wrote).rv
}

// forgetDeleted makes a deleted child writable again.
func (r *reconciler) forgetDeleted() predicate.Predicate {
	return predicate.Funcs{DeleteFunc: func(e event.DeleteEvent) bool { r.last.Delete(key(e.Object)); return true }}
}

func (r *reconciler) Reconcile(ctx context.Context, rq ctrl.Request) (ctrl.Result, error) {
	var a AgentService
	if err := r.Get(ctx, rq.NamespacedName, &a); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if a.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	desired, err := children.Build(r.kinds, a.Namespace, a.Name, string(a.UID), a.Spec)
	if err != nil {
		return ctrl.Result{}, err
	}
	for _, want := range desired {
		b, err := json.Marshal(want)
		if err != nil {
			return ctrl.Result{}, err
		}
		sum := sha256.Sum256(b)
		hash := hex.EncodeToString(sum[:8])
		want.SetAnnotations(map[string]string{hashAnnotation: hash})
		have := want.DeepCopyObject().(client.Object)
		err = r.Get(ctx, client.ObjectKeyFromObject(want), have)
		if err == nil && same(want, have) {
			continue
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return ctrl.Result{}, err
		}
		cached := uint64(0)
		if err == nil {
			cached = rv(have)
		}
		if r.pending(key(want), hash, cached) {
			continue
		}
		if err := r.Patch(ctx, want, client.Apply, client.FieldOwner(children.Manager), client.ForceOwnership); err != nil {
			return ctrl.Result{}, err
		}
		r.last.Store(key(want), wrote{hash, rv(want)})
	}
	if r.ledger {
		if err := r.keepLedger(ctx, &a); err != nil {
			return ctrl.Result{}, err
		}
	}
	gen := strconv.FormatInt(a.Generation, 10)
	if r.pending(key(&a), gen, rv(&a)) {
		return ctrl.Result{}, nil
	}
	if a.Status.ObservedGeneration != a.Generation {
		st := &AgentService{TypeMeta: metav1.TypeMeta{APIVersion: children.Group + "/" + children.Version, Kind: children.Kind},
			ObjectMeta: metav1.ObjectMeta{Name: a.Name, Namespace: a.Namespace},
			Status: Status{ObservedGeneration: a.Generation, Conditions: []metav1.Condition{{Type: "Ready",
				Status: metav1.ConditionTrue, Reason: "Applied", ObservedGeneration: a.Generation, LastTransitionTime: metav1.NewTime(a.CreationTimestamp.Time)}}}}
		if err := r.Status().Patch(ctx, st, client.Apply, client.FieldOwner(children.Manager), client.ForceOwnership); err != nil {
			return ctrl.Result{}, err
		}
		r.last.Store(key(st), wrote{gen, rv(st)})
	}
	return ctrl.Result{}, nil
}

// keepLedger makes the AgentLedger, which nobody owns, and opens its accounts.
func (r *reconciler) keepLedger(ctx context.Context, a *AgentService) error {
	have := children.Ledger(a.Namespace, a.Name)
	k := key(a) + "/ledger"
	err := r.Get(ctx, client.ObjectKeyFromObject(have), have)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if seeded, _, _ := unstructured.NestedBool(have.Object, "status", "seeded"); seeded || r.pending(k, "", 0) {
		return nil
	}
	want := children.Ledger(a.Namespace, a.Name)
	if err := r.Patch(ctx, want, client.Apply, client.FieldOwner(children.Manager), client.ForceOwnership); err != nil {
		return err
	}
	opened := []byte(`{"metadata":{"resourceVersion":"` + want.GetResourceVersion() + `"},"status":` + children.Accounts() + `}`)
	if err := r.Status().Patch(ctx, want, client.RawPatch(types.MergePatchType, opened), client.FieldOwner(children.Manager)); err != nil {
		return err
	}
	r.last.Store(k, wrote{"", rv(want)})
	return nil
}

// same: the desired state was written by us (hash) and every field we set still has our value (derivative compare).
func same(want, have client.Object) bool {
	if want.GetAnnotations()[hashAnnotation] != have.GetAnnotations()[hashAnnotation] ||
		!equality.Semantic.DeepDerivative(want.GetLabels(), have.GetLabels()) ||
		!equality.Semantic.DeepDerivative(want.GetOwnerReferences(), have.GetOwnerReferences()) {
		return false
	}
	switch w := want.(type) {
	case *corev1.ConfigMap:
		return equality.Semantic.DeepEqual(w.Data, have.(*corev1.ConfigMap).Data)
	case *corev1.ServiceAccount:
		return equality.Semantic.DeepEqual(w.AutomountServiceAccountToken, have.(*corev1.ServiceAccount).AutomountServiceAccountToken)
	case *corev1.Service:
		return equality.Semantic.DeepDerivative(w.Spec, have.(*corev1.Service).Spec)
	case *appsv1.Deployment:
		return equality.Semantic.DeepDerivative(w.Spec, have.(*appsv1.Deployment).Spec)
	case *policyv1.PodDisruptionBudget:
		return equality.Semantic.DeepDerivative(w.Spec, have.(*policyv1.PodDisruptionBudget).Spec)
	case *autoscalingv2.HorizontalPodAutoscaler:
		return equality.Semantic.DeepDerivative(w.Spec, have.(*autoscalingv2.HorizontalPodAutoscaler).Spec)
	case *networkingv1.NetworkPolicy:
		return equality.Semantic.DeepDerivative(w.Spec, have.(*networkingv1.NetworkPolicy).Spec)
	case *rbacv1.Role:
		return equality.Semantic.DeepEqual(w.Rules, have.(*rbacv1.Role).Rules)
	case *rbacv1.RoleBinding:
		return equality.Semantic.DeepEqual(w.Subjects, have.(*rbacv1.RoleBinding).Subjects)
	}
	return false
}

func main() {
	kinds := flag.String("kinds", "ConfigMap,ServiceAccount,Service,Deployment", "kinds of the children")
	ledger := flag.Bool("ledger", false, "keep an AgentLedger for each")
	workers := flag.Int("workers", 10, "MaxConcurrentReconciles")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	die := func(err error) {
		if err != nil {
			ctrl.Log.Error(err, "fatal")
			os.Exit(1)
		}
	}
	s := runtime.NewScheme()
	die(clientgoscheme.AddToScheme(s))
	gv := schema.GroupVersion{Group: children.Group, Version: children.Version}
	s.AddKnownTypes(gv, &AgentService{}, &AgentServiceList{})
	metav1.AddToGroupVersion(s, gv)
	cfg := ctrl.GetConfigOrDie()
	cfg.QPS = -1 // no limit
	cfg.UserAgent = "bench-baseline"
	grace := 5 * time.Second
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{Scheme: s, Metrics: metricsserver.Options{BindAddress: "0"},
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}}, GracefulShutdownTimeout: &grace})
	die(err)
	b := ctrl.NewControllerManagedBy(mgr).For(&AgentService{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: *workers})
	r := &reconciler{Client: mgr.GetClient(), kinds: strings.Split(*kinds, ","), ledger: *ledger}
	owned, err := children.Build(r.kinds, "x", "x", "x", children.Spec{})
	die(err)
	for _, o := range owned {
		b = b.Owns(o, builder.WithPredicates(r.forgetDeleted()))
	}
	if *ledger {
		b = b.Watches(children.Ledger("", ""), &handler.EnqueueRequestForObject{})
	}
	die(b.Complete(r))
	die(mgr.Start(ctrl.SetupSignalHandler()))
}
