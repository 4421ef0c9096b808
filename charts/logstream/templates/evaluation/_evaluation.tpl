{{/* Which of the three are made, as a JSON list: those that `connections` does not have. */}}
{{- define "logstream.evaluation" -}}
{{- $made := list -}}
{{- range $name, $connection := include "logstream.connections" . | fromJson -}}
{{- if $connection.evaluation -}}
{{- $made = append $made $name -}}
{{- end -}}
{{- end -}}
{{- $made | toJson -}}
{{- end -}}

{{/* Metadata's beginning of an object of an evaluation server. */}}
{{- define "logstream.evaluationMeta" -}}
name: {{ include "logstream.fullname" .root }}-evaluation-{{ .server }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "logstream.labels" (dict "root" .root "component" (printf "evaluation-%s" .server)) | nindent 2 }}
annotations:
  logstream.dev/not-for-production: "one copy, no backups, no TLS"
{{- end -}}

{{/* A StatefulSet's pod but for its container. uid: of the image's user. */}}
{{- define "logstream.evaluationPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: 60
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid }}
  runAsGroup: {{ .uid }}
  fsGroup: {{ .uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "logstream.evaluationStorage" -}}
{{- with .Values.evaluation.storage }}
{{- if .persistent }}
volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .className }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .size }}}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "logstream.evaluationData" -}}
{{- if not .Values.evaluation.storage.persistent }}
- name: data
  emptyDir: {sizeLimit: {{ .Values.evaluation.storage.size }}}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- end -}}
