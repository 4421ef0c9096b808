{{/*
What the operator may do, and nothing more: a test compares this with the requests that it makes on a real API server.
*/}}
{{- define "logstream.rules" -}}
# The resources themselves.
- apiGroups: [logstream.dev]
  resources: [logstreams, logstreamapikeys]
  verbs: [get, list, watch, patch]
- apiGroups: [logstream.dev]
  resources: [logstreams/status, logstreamapikeys/status]
  verbs: [patch]
# Needed where owner references are checked (admission plugin OwnerReferencesPermissionEnforcement, OpenShift).
- apiGroups: [logstream.dev]
  resources: [logstreams/finalizers, logstreamapikeys/finalizers]
  verbs: [update]
# What it makes for them. Server-side apply is a patch, and a create where nothing was.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, services]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [list, watch, create, patch, delete]
# Of APIs that may be there.
- apiGroups: [keda.sh]
  resources: [scaledobjects, triggerauthentications]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- define "logstream.secretRules" -}}
# By name only: Secrets are never listed.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
{{- end -}}
