{{- define "strogoff.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Names of pods and of services come from it, so there has to be room for "-headless". */}}
{{- define "strogoff.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "strogoff.headless" -}}
{{- include "strogoff.fullname" . }}-headless
{{- end -}}

{{- define "strogoff.domain" -}}
{{- include "strogoff.headless" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* "true" where the chart says which nodes there are, in a file that pods which run see change. */}}
{{- define "strogoff.hasList" -}}
{{- if and (eq .Values.discovery "static") (not (hasKey .Values.config "cluster.discovery.static.nodes")) -}}true{{- end -}}
{{- end -}}

{{- define "strogoff.selectorLabels" -}}
app.kubernetes.io/name: {{ include "strogoff.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "strogoff.labels" -}}
{{ include "strogoff.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "strogoff.serviceAccountName" -}}
{{- if .Values.rbac.serviceAccount.create -}}
{{- default (include "strogoff.fullname" .) .Values.rbac.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.rbac.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* "true" where the API of Kubernetes is asked at all. */}}
{{- define "strogoff.asksApi" -}}
{{- if or (eq .Values.discovery "kubernetes") (and (eq .Values.drain.leave "auto") (not .Values.statefulset.lifecycle)) -}}true{{- end -}}
{{- end -}}

{{- define "strogoff.cookieSecret" -}}
{{- if .Values.cookie.existingSecret -}}
{{- .Values.cookie.existingSecret -}}
{{- else if .Values.cookie.value -}}
{{- include "strogoff.fullname" . }}-cookie
{{- end -}}
{{- end -}}

{{- define "strogoff.clusterTlsSecret" -}}
{{- default (printf "%s-cluster-tls" (include "strogoff.fullname" .)) .Values.clusterTls.existingSecret -}}
{{- end -}}

{{- define "strogoff.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* A value in the syntax of the configuration file. Numbers of YAML are floating-point numbers for a template. */}}
{{- define "strogoff.value" -}}
{{- if kindIs "bool" . -}}
{{- ternary "on" "off" . -}}
{{- else if kindIs "float64" . -}}
{{- if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else -}}
{{- $text := toString . -}}
{{- if contains "\n" $text -}}'''{{ $text }}'''
{{- else if or (contains "#" $text) (ne (trim $text) $text) (eq $text "") -}}'{{ $text }}'
{{- else -}}{{ $text }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "strogoff.conf" -}}
{{- if and .Values.clusterTls.enabled (eq .Values.discovery "kubernetes") -}}
{{- fail "discovery: kubernetes finds addresses, for which no certificate of clusterTls is good: use dns, or static" -}}
{{- end -}}
platform_data_dir = /strogoff/data/node
listener.http.metrics = {{ .Values.listenAddress }}:8888
{{- if .Values.clusterTls.enabled }}
listener.vmqs.clustering = {{ .Values.listenAddress }}:44053
listener.vmqs.clustering.certfile = /strogoff/tls/cluster/tls.crt
listener.vmqs.clustering.keyfile = /strogoff/tls/cluster/tls.key
listener.vmqs.clustering.cafile = /strogoff/tls/cluster/ca.crt
{{- else }}
listener.vmq.clustering = {{ .Values.listenAddress }}:44053
{{- end }}
{{- if .Values.service.mqtt.enabled }}
listener.tcp.default = {{ .Values.listenAddress }}:1883
{{- end }}
{{- if .Values.service.mqtts.enabled }}
listener.ssl.default = {{ .Values.listenAddress }}:{{ int .Values.service.mqtts.port }}
{{- end }}
{{- if .Values.service.ws.enabled }}
listener.ws.default = {{ .Values.listenAddress }}:8080
{{- end }}
{{- if .Values.service.wss.enabled }}
listener.wss.default = {{ .Values.listenAddress }}:{{ int .Values.service.wss.port }}
{{- end }}
{{- if .Values.certificates.cert }}
{{- range $family := list "ssl" "wss" }}
listener.{{ $family }}.certfile = /etc/ssl/vernemq/tls.crt
listener.{{ $family }}.keyfile = /etc/ssl/vernemq/tls.key
{{- if $.Values.certificates.ca }}
listener.{{ $family }}.cafile = /etc/ssl/vernemq/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- if include "strogoff.hasList" . }}
cluster.discovery = file
cluster.discovery.file.path = /strogoff/conf/nodes
{{- else if ne .Values.discovery "none" }}
cluster.discovery = {{ .Values.discovery }}
{{- end }}
{{- if eq .Values.discovery "dns" }}
cluster.discovery.dns.name = {{ include "strogoff.domain" . }}
{{- end }}
{{- if and (eq .Values.discovery "kubernetes") (not (hasKey .Values.config "cluster.discovery.kubernetes.label_selector")) }}
cluster.discovery.kubernetes.service = {{ include "strogoff.headless" . }}
{{- end }}
{{- if .Values.acl.enabled }}
vmq_acl.acl_file = /strogoff/conf/vmq.acl
{{- end }}
{{- range $key, $value := .Values.config }}
{{ $key }} = {{ include "strogoff.value" $value }}
{{- end }}
{{- with .Values.extraConfig }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Ports of the container, as `name port` on lines: those of clients that are open. */}}
{{- define "strogoff.clientPorts" -}}
{{- if .Values.service.mqtt.enabled }}
mqtt: 1883
{{- end }}
{{- if .Values.service.mqtts.enabled }}
mqtts: {{ int .Values.service.mqtts.port }}
{{- end }}
{{- if .Values.service.ws.enabled }}
ws: 8080
{{- end }}
{{- if .Values.service.wss.enabled }}
wss: {{ int .Values.service.wss.port }}
{{- end }}
{{- end -}}

{{/* A probe: what VerneMQ's values say how, or /health/... on the port of HTTP. */}}
{{- define "strogoff.probe" -}}
{{- $probe := default dict .probe -}}
{{- if not (or $probe.exec $probe.tcpSocket $probe.httpGet $probe.grpc) }}
httpGet:
  path: {{ .path }}
  port: api
{{- end }}
{{- with $probe }}
{{ toYaml . }}
{{- end }}
{{- end -}}
