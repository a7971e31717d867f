{{/* What all Pods of the operator have in common: who they are, what they may, where they run. */}}
{{- define "latency-operator.pod" -}}
serviceAccountName: {{ include "latency-operator.serviceAccount" . }}
automountServiceAccountToken: true
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
- name: config
  projected:
    # For the group that is the Pod's fsGroup, and for nobody else.
    defaultMode: 0440
    sources:
    - configMap:
        name: {{ include "latency-operator.fullname" . }}
        items:
        - {key: config.yaml, path: config.yaml}
    {{- range $backend := .Values.config.backends }}
    {{- with $backend.bearerTokenSecret }}
    - secret:
        name: {{ .name }}
        items:
        - {key: {{ .key | quote }}, path: {{ printf "backends/%s/token" $backend.name }}}
    {{- end }}
    {{- with $backend.caSecret }}
    - secret:
        name: {{ .name }}
        items:
        - {key: {{ .key | quote }}, path: {{ printf "backends/%s/ca.crt" $backend.name }}}
    {{- end }}
    {{- with $backend.caConfigMap }}
    - configMap:
        name: {{ .name }}
        items:
        - {key: {{ .key | quote }}, path: {{ printf "backends/%s/ca.crt" $backend.name }}}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* The same for their containers. */}}
{{- define "latency-operator.container" -}}
image: {{ include "latency-operator.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
- name: config
  mountPath: /etc/latency-operator
  readOnly: true
{{- end -}}

{{- define "latency-operator.spread" -}}
{{- if .Values.topologySpreadConstraints -}}
{{- toYaml .Values.topologySpreadConstraints -}}
{{- else -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  # Of one version: while a new one is rolled out, the old one does not count.
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- include "latency-operator.selector" $ | nindent 6 }}
      app.kubernetes.io/component: operator
{{- end }}
{{- end -}}
{{- end -}}
