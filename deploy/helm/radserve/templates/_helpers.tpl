{{- define "radserve.name" -}}
{{- if contains "radserve" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-radserve" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "radserve.selector" -}}
app.kubernetes.io/name: radserve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "radserve.labels" -}}
{{ include "radserve.selector" . }}
app.kubernetes.io/component: server
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "radserve.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "radserve.isolated" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "radserve.kind" -}}
{{ ternary "StatefulSet" "Deployment" .Values.state.persistent }}
{{- end }}
