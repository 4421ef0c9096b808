{{- define "logstream.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Objects of the chart are named FULLNAME-operator, FULLNAME-kafka, …: at most 63 characters with the longest. */}}
{{- define "logstream.fullname" -}}
{{- $name := include "logstream.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Not `logstream`: that is the name of what the operator makes. */}}
{{- define "logstream.selector" -}}
app.kubernetes.io/name: logstream-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "logstream.labels" -}}
{{ include "logstream.selector" . }}
app.kubernetes.io/part-of: logstream
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "logstream.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (printf "%s-operator" (include "logstream.fullname" .)) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "logstream.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Namespaces that the operator watches, as a JSON list; none: all of them. */}}
{{- define "logstream.namespaces" -}}
{{- if eq .Values.scope "cluster" -}}
[]
{{- else -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end -}}

{{/*
The connections, as a JSON object: by name, the Secret, whether the chart makes it, and what each key becomes.
`value`: of a Secret of the chart. Absent: neither a Secret nor values.
*/}}
{{- define "logstream.connections" -}}
{{- $fullname := include "logstream.fullname" . -}}
{{- $all := dict -}}
{{- $kinds := dict
  "kafka" (dict "main" "bootstrapServers" "prefix" "KAFKA" "keys" (dict
    "bootstrap_servers" "bootstrapServers" "security_protocol" "securityProtocol" "sasl_mechanism" "saslMechanism"
    "username" "username" "password" "password" "ca.crt" "ca" "tls.crt" "certificate" "tls.key" "key"))
  "clickhouse" (dict "main" "url" "prefix" "STORE" "keys" (dict
    "url" "url" "username" "username" "password" "password" "ca.crt" "ca" "cluster" "cluster"))
  "postgres" (dict "main" "url" "prefix" "POSTGRES" "keys" (dict "url" "url" "password" "password"))
-}}
{{- range $name, $kind := $kinds -}}
{{- $given := index $.Values.connections $name -}}
{{- $values := dict -}}
{{- range $key, $field := $kind.keys -}}
{{- with index $given $field -}}
{{- $_ := set $values $key . -}}
{{- end -}}
{{- end -}}
{{- $found := dict "prefix" $kind.prefix -}}
{{- if $given.existingSecret -}}
{{- if $values -}}
{{- fail (printf "connections.%s: existingSecret and values (%s) exclude each other" $name (keys $values | sortAlpha | join ", ")) -}}
{{- end -}}
{{- range $given.existingSecretKeys -}}
{{- if not (hasKey $kind.keys .) -}}
{{- fail (printf "connections.%s.existingSecretKeys: %s is none of %s" $name . (keys $kind.keys | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $found "secret" $given.existingSecret -}}
{{- $_ := set $found "keys" (sortAlpha $given.existingSecretKeys) -}}
{{- $_ := set $all $name $found -}}
{{- else if index $given $kind.main -}}
{{- $_ := set $found "secret" (printf "%s-%s" $fullname $name) -}}
{{- $_ := set $found "values" $values -}}
{{- $_ := set $found "keys" (keys $values | sortAlpha) -}}
{{- $_ := set $all $name $found -}}
{{- else if $values -}}
{{- fail (printf "connections.%s: %s without %s" $name (keys $values | sortAlpha | join ", ") $kind.main) -}}
{{- else if $.Values.evaluation.enabled -}}
{{- $_ := set $found "secret" (printf "%s-evaluation-%s" $fullname $name) -}}
{{- $_ := set $found "evaluation" true -}}
{{- $_ := set $found "keys" (index (dict "kafka" (list "bootstrap_servers") "clickhouse" (list "password" "url") "postgres" (list "password" "url")) $name) -}}
{{- $_ := set $all $name $found -}}
{{- end -}}
{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* The setting behind a key of a connection: its value is the file's content, or (certificates) the file's name. */}}
{{- define "logstream.setting" -}}
{{- $paths := dict "ca.crt" "CA_FILE" "tls.crt" "CERT_FILE" "tls.key" "KEY_FILE" -}}
{{- default (printf "%s_FILE" (upper .)) (index $paths .) -}}
{{- end -}}

{{/* A password of an evaluation server: given, or the one of the Secret that is there, or a new one. */}}
{{- define "logstream.password" -}}
{{- if .given -}}
{{- .given -}}
{{- else -}}
{{- $old := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if and $old $old.data (index $old.data "password") -}}
{{- index $old.data "password" | b64dec -}}
{{- else -}}
{{- randAlphaNum 32 -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What every container of the chart may not do. */}}
{{- define "logstream.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
