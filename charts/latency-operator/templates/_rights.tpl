{{/* What the operator may do in each namespace that it looks after. It never lists Secrets, and changes nothing but its own kinds, Events and, where Scale is switched on, the replicas of a policy's target. */}}
{{- define "latency-operator.rights" -}}
# What is guarded, and what may be done about it; the last is read live before anything is done.
- apiGroups: [latency-operator.dev]
  resources: [latencypolicies]
  verbs: [get, list, watch]
# Incidents: opened, looked for after a restart, removed when nobody needs them any more.
- apiGroups: [latency-operator.dev]
  resources: [latencyincidents]
  verbs: [get, list, create, delete]
# The ledger: each act is one of these. patch: the finalizer goes when nothing is owed any more.
- apiGroups: [latency-operator.dev]
  resources: [latencyremediations]
  verbs: [get, list, watch, create, patch, delete]
# What is seen and done. patch: the conditions of a policy that cannot be decoded.
- apiGroups: [latency-operator.dev]
  resources: [latencypolicies/status]
  verbs: [update, patch]
- apiGroups: [latency-operator.dev]
  resources: [latencyincidents/status, latencyremediations/status]
  verbs: [update]
# An incident goes with its policy: some clusters let only those write such a reference who may write the policy's finalizers.
- apiGroups: [latency-operator.dev]
  resources: [latencypolicies/finalizers]
  verbs: [update]
# The targets: their metadata is watched, their replicas are read once something is broken.
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch]
# The Secrets that policies name; read by name, never listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# Probes and WarmCache ask the ready Pods of a Service, at addresses that the Pods have themselves: the Service says which Pods
# and port, its slices which addresses are ready, the Pods whose they are.
- apiGroups: [""]
  resources: [services]
  verbs: [get]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# What it tells, on policies and their targets.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if or (include "latency-operator.acts" (list . "Scale")) (include "latency-operator.acts" (list . "ShedWorkers")) }}
# Scale and ShedWorkers: set the replicas of a workload, and take them back.
- apiGroups: [apps]
  resources: [deployments/scale, statefulsets/scale]
  verbs: [patch]
# What somebody else scales already is left alone.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list]
{{- end }}
{{- end -}}

{{/* What is of the cluster, whichever namespaces are looked after. */}}
{{- define "latency-operator.clusterRights" -}}
# The administrator's ceilings; without them nothing is begun.
- apiGroups: [latency-operator.dev]
  resources: [remediationbudgets]
  verbs: [list, watch]
# How much of each budget is used.
- apiGroups: [latency-operator.dev]
  resources: [remediationbudgets/status]
  verbs: [patch]
# Whether a namespace is paused, and the labels by which budgets select it.
- apiGroups: [""]
  resources: [namespaces]
  {{- with .Values.config.watchNamespaces }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [get, list, watch]
{{- end -}}
