{{/* Names leave room for what Kubernetes, KEDA and this chart append, inside 63 characters. */}}
{{- define "emotion-worker.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 44 | trimAll "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 44 | trimAll "-" }}
{{- end -}}
{{- end }}

{{/* The consumer group: what is given, else the release's own. fullnameOverride does not change it. */}}
{{- define "emotion-worker.groupId" -}}
{{- .Values.settings.kafka.group_id | default (include "emotion-worker.ownGroup" .) -}}
{{- end }}
{{- define "emotion-worker.ownGroup" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name }}
{{- end -}}
{{- end }}

{{/*
Why a release without a group of its own in its values cannot be rendered; empty where it can. Until
2026-11 the default was emotion-worker for all releases, and a release that falls into another group
labels its whole topic again. What runs is asked where there is a cluster. A list says that there is
one, also if it is empty, and finds a release whatever its objects were called.
*/}}
{{- define "emotion-worker.groupProblem" -}}
{{- $own := include "emotion-worker.ownGroup" . -}}
{{- if not .Values.settings.kafka.group_id -}}
{{- $found := lookup "v1" "ConfigMap" .Release.Namespace "" -}}
{{- if $found -}}
{{- range $each := $found.items -}}
{{- $group := dig "data" "WORKER_KAFKA__GROUP_ID" "" $each -}}
{{- $labels := dig "metadata" "labels" dict $each -}}
{{- $ours := eq (get $labels "app.kubernetes.io/instance" | default "") $.Release.Name -}}
{{- if and $ours $group (ne $group $own) -}}
{{ printf "settings.kafka.group_id: not set, and this release runs in group %s; in %s it would label the whole topic again. Set it to %s (or copy the offsets first: deploy/README.md, Upgrade)" $group $own $group }}
{{- end -}}
{{- end -}}
{{- else if ne $own "emotion-worker" -}}
{{ printf "settings.kafka.group_id: not set, and without a cluster to ask (helm template, Argo CD, --dry-run=client) nobody knows in which group this release runs. Set it: %s for a new release, emotion-worker for one that was installed when that was the default" $own }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "emotion-worker.serviceAccountName" -}}
{{- $made := include "emotion-worker.fullname" . -}}
{{- with .Values.serviceAccount }}{{ .name | default (ternary $made "default" .create) }}{{ end -}}
{{- end }}

{{- define "emotion-worker.workloadKind" -}}
{{ ternary "StatefulSet" "Deployment" (eq .Values.settings.delivery.guarantee "exactly_once") }}
{{- end }}

{{/*
The `replicas` of the workload. KEDA's are KEDA's own, but a manifest that loses the field sets it to 1:
helm then takes over what runs, so that going from replicaCount to KEDA drops nobody.
*/}}
{{- define "emotion-worker.replicas" -}}
{{- if not .Values.keda.enabled -}}
replicas: {{ int .Values.replicaCount }}
{{- else -}}
{{- $kind := include "emotion-worker.workloadKind" . -}}
{{- $runs := lookup "apps/v1" $kind .Release.Namespace (include "emotion-worker.fullname" .) -}}
{{- if $runs -}}
replicas: {{ dig "spec" "replicas" 1 $runs | int }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The most pods that there may be: 2 or more have a disruption budget, and no one identity. */}}
{{- define "emotion-worker.mostReplicas" -}}
{{ ternary .Values.keda.maxReplicas .Values.replicaCount .Values.keda.enabled | int }}
{{- end }}

{{/*
Labels that select pods: (list $ COMPONENT). They never change, or upgrades are refused. The name is
the same in all releases: it is the `job` of the metrics.
*/}}
{{- define "emotion-worker.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: emotion-worker
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object: (list $ COMPONENT), or (list $ COMPONENT MORE). */}}
{{- define "emotion-worker.labels" -}}
{{- $ := index . 0 -}}
{{ include "emotion-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: emotion-stream
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- with merge (dict) (index (append . dict) 2) $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a pod: (list $ COMPONENT). No versions: a new chart alone rolls no pods. */}}
{{- define "emotion-worker.podLabels" -}}
{{- $ := index . 0 -}}
{{ include "emotion-worker.selectorLabels" . }}
app.kubernetes.io/part-of: emotion-stream
{{- with merge (dict) $.Values.podLabels $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image's reference: (list $ IMAGE). */}}
{{- define "emotion-worker.image" -}}
{{- $ := index . 0 -}}
{{- with index . 1 -}}
{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{/* Resources with a GPU, or without: (list $ RESOURCES WITH_GPU). */}}
{{- define "emotion-worker.resources" -}}
{{- $ := index . 0 -}}
{{- $resources := omit (deepCopy (index . 1)) "claims" -}}
{{- if index . 2 -}}
{{- if $.Values.gpu.resource -}}
{{- $gpu := dict $.Values.gpu.resource (int $.Values.gpu.count) -}}
{{- $_ := set $resources "limits" (merge $gpu ($resources.limits | default dict)) -}}
{{- end -}}
{{- with $.Values.resourceClaims -}}
{{- $claims := list -}}
{{- range . }}{{ $claims = append $claims (dict "name" .name) }}{{ end -}}
{{- $_ := set $resources "claims" ($.Values.resources.claims | default $claims) -}}
{{- end -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* The resources of the worker's container: memory is that of one process, times their number. */}}
{{- define "emotion-worker.ofAllProcesses" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- $processes := int .Values.processes -}}
{{- range $kind := list "requests" "limits" -}}
{{- $memory := dig $kind "memory" "" $resources -}}
{{- if and $memory (gt $processes 1) -}}
{{- if kindIs "string" $memory -}}
{{- $number := regexFind "^[0-9.]+" $memory -}}
{{- $all := round (mulf (float64 $number) $processes) 6 -}}
{{- /* Not 8.5e+09: an exponent before a unit is no quantity. */ -}}
{{- $written := ternary (printf "%.0f" $all) (toString $all) (eq $all (floor $all)) -}}
{{- $_ := set (index $resources $kind) "memory" (print $written (trimPrefix $number $memory)) -}}
{{- else -}}
{{- $_ := set (index $resources $kind) "memory" (mulf $memory $processes | int64) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* Whole threads of a process for the CPUs that are asked for: 1500m are 2, of two processes 1. */}}
{{- define "emotion-worker.cpuThreads" -}}
{{- $limit := dig "limits" "cpu" 1 .Values.resources -}}
{{- $cpu := dig "requests" "cpu" $limit .Values.resources | toString -}}
{{- $unit := ternary 1000.0 1.0 (hasSuffix "m" $cpu) -}}
{{- $threads := divf (trimSuffix "m" $cpu | float64) $unit | ceil | int -}}
{{ max 1 (div $threads (int .Values.processes)) }}
{{- end }}

{{/* What every pod has: (list $ WITH_GPU). */}}
{{- define "emotion-worker.podBasics" -}}
{{- $ := index . 0 -}}
{{- $gpu := index . 1 -}}
serviceAccountName: {{ include "emotion-worker.serviceAccountName" $ | quote }}
automountServiceAccountToken: false
# A Service named `worker` would put WORKER_PORT into the environment, and that is no setting.
enableServiceLinks: false
{{- with $.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $.Values.podSecurityContext | nindent 2 }}
{{- with $.Values.schedulerName }}
schedulerName: {{ . | quote }}
{{- end }}
{{- if $gpu }}
{{- with $.Values.resourceClaims }}
resourceClaims:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with $.Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- if and $gpu $.Values.gpu.runtimeClassName }}
runtimeClassName: {{ $.Values.gpu.runtimeClassName | quote }}
{{- end }}
{{- with merge (dict) (ternary $.Values.gpu.nodeSelector (dict) $gpu) $.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (ternary $.Values.gpu.tolerations (list) $gpu) $.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A probe: (list PATH TIMING). */}}
{{- define "emotion-worker.probe" -}}
httpGet:
  path: {{ index . 0 }}
  port: http
{{ toYaml (index . 1) }}
{{- end }}
