{{- /*
What the operator may do in a namespace that it serves. tests/chart/test_rbac.py compares this list with what the code asks for.
Not here, on purpose: reading Secrets. `create` alone lets it hand out a generated API token, once.
*/ -}}
{{- define "agentservice-operator.rules" -}}
- apiGroups: [agentservice.dev]
  resources: [agentservices]
  verbs: [get, list, watch]
- apiGroups: [agentservice.dev]
  resources: [agentservices/status]
  verbs: [patch]
- apiGroups: [agentservice.dev] # children block their owner's deletion; OpenShift asks for this verb then
  resources: [agentservices/finalizers]
  verbs: [update]
- apiGroups: [agentservice.dev]
  resources: [agentledgers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [agentservice.dev] # dead holders, closed windows, a restore; and a Role can only grant what its writer holds
  resources: [agentledgers/status]
  verbs: [patch]
- apiGroups: [rbac.authorization.k8s.io] # lets the pods of an agent with a budget keep their own AgentLedger
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io] # its own, and the kubelet's FailedMount, which says which Secret is missing
  resources: [events]
  verbs: [create, list, watch]
{{- end -}}
