{{/* Where a backend's Secrets and ConfigMaps are mounted. */}}
{{- define "latency-operator.backendFolder" -}}
/etc/latency-operator/backends/{{ .name }}
{{- end -}}

{{/* The operator's configuration file: docs/configuration.md. */}}
{{- define "latency-operator.config" -}}
{{- $config := .Values.config -}}
{{- if and (eq $config.secrets "AuthorChecked") (not .Values.authorRights.enabled) -}}
{{- fail "config.secrets: AuthorChecked needs authorRights.enabled: true, which asks the author of each policy for the right to its Secrets; without it anybody who may write a policy could use any Secret of its namespace. Enable it, or set config.secrets: Labelled" -}}
{{- end -}}
apiVersion: config.latency-operator.dev/v1alpha1
kind: OperatorConfig
backends:
{{- range $config.backends }}
- {{ include "latency-operator.backend" . | nindent 2 | trim }}
{{- else }} []
{{- end }}
watchNamespaces: {{ toJson $config.watchNamespaces }}
lease:
  name: {{ include "latency-operator.lease" . }}
  duration: {{ $config.lease.duration }}
  renewDeadline: {{ $config.lease.renewDeadline }}
  retryPeriod: {{ $config.lease.retryPeriod }}
actions: {{ toJson $config.actions }}
protectedRoles: {{ toJson $config.protectedRoles }}
secrets: {{ $config.secrets }}
policyMetrics: {{ $config.policyMetrics }}
{{- end -}}

{{/* One backend of the file: as it was given, but with the places of what is mounted. */}}
{{- define "latency-operator.backend" -}}
{{- $backend := omit . "bearerTokenSecret" "caSecret" "caConfigMap" -}}
{{- $folder := include "latency-operator.backendFolder" . -}}
{{- if .bearerTokenSecret -}}
{{- $_ := set $backend "bearerTokenFile" (printf "%s/token" $folder) -}}
{{- end -}}
{{- if or .caSecret .caConfigMap -}}
{{- $_ := set $backend "caFile" (printf "%s/ca.crt" $folder) -}}
{{- end -}}
{{ toYaml $backend }}
{{- end -}}
