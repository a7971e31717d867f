{{/* The names of all objects. */}}
{{- define "latency-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "latency-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "latency-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "latency-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "latency-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: with serviceAccount.create: false, name the account that the operator runs as" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "latency-operator.lease" -}}
{{- default (include "latency-operator.fullname" .) .Values.config.lease.name -}}
{{- end -}}

{{/* By what the objects of this release are known. */}}
{{- define "latency-operator.selector" -}}
app.kubernetes.io/name: {{ include "latency-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "latency-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "latency-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "latency-operator.image" -}}
{{- $image := .Values.image -}}
{{- $repository := $image.repository -}}
{{- if $image.registry -}}
{{- $repository = printf "%s/%s" $image.registry $image.repository -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Whether an action is switched on: "true" or nothing. Call it with (list . "Scale"). */}}
{{- define "latency-operator.acts" -}}
{{- if has (index . 1) (index . 0).Values.config.actions -}}true{{- end -}}
{{- end -}}

{{/* The subject of all bindings. */}}
{{- define "latency-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "latency-operator.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
