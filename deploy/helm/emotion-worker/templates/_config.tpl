{{/* Where the Secrets' files are. The worker reads all of the second folder: passwords alone. */}}
{{- define "emotion-worker.filesDir" -}}/etc/emotion-worker/kafka{{- end }}
{{- define "emotion-worker.secretsDir" -}}/etc/emotion-worker/secrets{{- end }}

{{/* Whether there are such files. */}}
{{- define "emotion-worker.hasFiles" -}}
{{- with .Values.credentials -}}
{{- if or .ca.secretName .client.secretName .saslToken.secretName .saslToken.serviceAccount.audience }}true{{ end -}}
{{- end -}}
{{- end }}
{{- define "emotion-worker.hasSecrets" -}}
{{- with .Values.credentials -}}
{{- if or .saslPassword.secretName .clientKeyPassword.secretName }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* The worker's variables: the settings that are given, then what the chart knows. */}}
{{- define "emotion-worker.config" -}}
{{- $config := dict -}}
{{- range $group, $settings := .Values.settings -}}
{{- range $name, $value := $settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- /* Numbers as JSON has them: Go writes 16777216 as 1.6777216e+07, which is no integer. */ -}}
{{- $text := kindIs "string" $value | ternary $value (toJson $value) -}}
{{- $_ := set $config (printf "WORKER_%s__%s" (upper $group) (upper $name)) $text -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "WORKER_KAFKA__GROUP_ID" (include "emotion-worker.groupId" .) -}}
{{- $_ := set $config "WORKER_MODEL__CHECKPOINT" "/checkpoint" -}}
{{- $_ := set $config "WORKER_MODEL__DEVICE" (ternary "cuda" "cpu" .Values.gpu.enabled) -}}
{{- if gt (int .Values.processes) 1 -}}
{{- $_ := set $config "WORKER_PROCESSES" (int .Values.processes | toString) -}}
{{- end -}}
{{- if not (or .Values.gpu.enabled (hasKey $config "WORKER_MODEL__THREADS")) -}}
{{- $_ := set $config "WORKER_MODEL__THREADS" (include "emotion-worker.cpuThreads" .) -}}
{{- end -}}
{{- $files := include "emotion-worker.filesDir" . -}}
{{- if .Values.credentials.ca.secretName -}}
{{- $_ := set $config "WORKER_KAFKA__SSL_CAFILE" (printf "%s/ca.crt" $files) -}}
{{- end -}}
{{- if .Values.credentials.client.secretName -}}
{{- $_ := set $config "WORKER_KAFKA__SSL_CERTFILE" (printf "%s/client.crt" $files) -}}
{{- $_ := set $config "WORKER_KAFKA__SSL_KEYFILE" (printf "%s/client.key" $files) -}}
{{- end -}}
{{- with .Values.credentials.saslToken -}}
{{- if or .secretName .serviceAccount.audience -}}
{{- $_ := set $config "WORKER_KAFKA__SASL_TOKEN_FILE" (printf "%s/token" $files) -}}
{{- else if .path -}}
{{- $_ := set $config "WORKER_KAFKA__SASL_TOKEN_FILE" .path -}}
{{- end -}}
{{- end -}}
{{- if include "emotion-worker.hasSecrets" . -}}
{{- $_ := set $config "WORKER_SECRETS_DIR" (include "emotion-worker.secretsDir" .) -}}
{{- end -}}
{{ toYaml $config }}
{{- end }}

{{/* Volumes of worker and check. Modes are decimal: 288 is 0440, read by the group fsGroup. */}}
{{- define "emotion-worker.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.scratch.tmpSize }}
{{- if .Values.scratch.sharedMemory }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.scratch.shmSize }}
{{- end }}
{{- with .Values.checkpoint }}
- name: checkpoint
  {{- if .persistentVolumeClaim.claimName }}
  persistentVolumeClaim:
    claimName: {{ .persistentVolumeClaim.claimName | quote }}
    readOnly: true
  {{- else if .image.reference }}
  image:
    reference: {{ .image.reference | quote }}
    pullPolicy: {{ .image.pullPolicy }}
  {{- else if .hostPath.path }}
  hostPath:
    path: {{ .hostPath.path | quote }}
    type: Directory
  {{- else }}
  emptyDir:
    sizeLimit: {{ .download.sizeLimit }}
- name: fetch
  projected:
    defaultMode: 288
    sources:
      - configMap:
          name: {{ include "emotion-worker.fullname" $ }}-fetch
          items:
            - key: fetch_checkpoint.py
              path: fetch_checkpoint.py
      {{- with .download.authorizationSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name | quote }}
          items:
            - key: {{ .key | quote }}
              path: authorization
      {{- end }}
      {{- end }}
      {{- with .download.caSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name | quote }}
          items:
            - key: {{ .key | quote }}
              path: ca.crt
      {{- end }}
      {{- end }}
  {{- end }}
{{- end }}
{{- with .Values.credentials }}
{{- if include "emotion-worker.hasFiles" $ }}
- name: kafka
  projected:
    defaultMode: 288
    sources:
      {{- with .ca }}
      {{- if .secretName }}
      - secret:
          name: {{ .secretName | quote }}
          items:
            - key: {{ .key | quote }}
              path: ca.crt
      {{- end }}
      {{- end }}
      {{- with .client }}
      {{- if .secretName }}
      - secret:
          name: {{ .secretName | quote }}
          items:
            - key: {{ .certificateKey | quote }}
              path: client.crt
            - key: {{ .privateKeyKey | quote }}
              path: client.key
      {{- end }}
      {{- end }}
      {{- with .saslToken }}
      {{- if .secretName }}
      - secret:
          name: {{ .secretName | quote }}
          items:
            - key: {{ .key | quote }}
              path: token
      {{- end }}
      {{- with .serviceAccount }}
      {{- if .audience }}
      - serviceAccountToken:
          audience: {{ .audience | quote }}
          expirationSeconds: {{ int .expirationSeconds }}
          path: token
      {{- end }}
      {{- end }}
      {{- end }}
{{- end }}
{{- if include "emotion-worker.hasSecrets" $ }}
- name: secrets
  projected:
    defaultMode: 288
    sources:
      {{- with .saslPassword }}
      {{- if .secretName }}
      - secret:
          name: {{ .secretName | quote }}
          items:
            - key: {{ .key | quote }}
              path: WORKER_KAFKA__SASL_PASSWORD
      {{- end }}
      {{- end }}
      {{- with .clientKeyPassword }}
      {{- if .secretName }}
      - secret:
          name: {{ .secretName | quote }}
          items:
            - key: {{ .key | quote }}
              path: WORKER_KAFKA__SSL_KEY_PASSWORD
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "emotion-worker.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.scratch.sharedMemory }}
- name: shm
  mountPath: /dev/shm
{{- end }}
- name: checkpoint
  mountPath: /checkpoint
  readOnly: true
  {{- with .Values.checkpoint }}
  {{- $claim := .persistentVolumeClaim }}
  {{- with ternary $claim.subPath .image.subPath (ne $claim.claimName "") }}
  subPath: {{ . | quote }}
  {{- end }}
  {{- end }}
{{- if include "emotion-worker.hasFiles" . }}
- name: kafka
  mountPath: {{ include "emotion-worker.filesDir" . }}
  readOnly: true
{{- end }}
{{- if include "emotion-worker.hasSecrets" . }}
- name: secrets
  mountPath: {{ include "emotion-worker.secretsDir" . }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The init containers: the one that fetches the checkpoint, where it is to be downloaded; yours. */}}
{{- define "emotion-worker.initContainers" -}}
{{- if or .Values.checkpoint.download.url .Values.extraInitContainers -}}
initContainers:
{{- end -}}
{{- with .Values.checkpoint.download -}}
{{- if .url }}
  - name: checkpoint
    image: {{ include "emotion-worker.image" (list $ $.Values.image) | quote }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    terminationMessagePolicy: FallbackToLogsOnError
    command: [python, /fetch/fetch_checkpoint.py]
    args:
      - {{ printf "--url=%s" .url | quote }}
      - --sha256={{ .sha256 }}
      - --into=/checkpoint
      {{- if .authorizationSecret.name }}
      - --authorization=/fetch/authorization
      {{- end }}
    {{- if or .caSecret.name $.Values.extraEnv }}
    env:
      {{- if .caSecret.name }}
      - name: SSL_CERT_FILE
        value: /fetch/ca.crt
      {{- end }}
      {{- with $.Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
    resources:
      {{- include "emotion-worker.resources" (list $ $.Values.resources false) | nindent 6 }}
    securityContext:
      {{- toYaml $.Values.containerSecurityContext | nindent 6 }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      - name: checkpoint
        mountPath: /checkpoint
      - name: fetch
        mountPath: /fetch
        readOnly: true
      {{- with $.Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraInitContainers }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{/* What else a container's variables come from. */}}
{{- define "emotion-worker.envFrom" -}}
- configMapRef:
    name: {{ include "emotion-worker.fullname" . }}
{{- with .Values.envFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
How the pods spread: as told, or over the nodes as far as there are some. Also where there is one pod:
going from one to two would roll them otherwise.
*/}}
{{- define "emotion-worker.topologySpread" -}}
{{- if .Values.topologySpreadConstraints -}}
topologySpreadConstraints:
  {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
{{- else if .Values.defaultTopologySpread -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "emotion-worker.selectorLabels" (list . "worker") | nindent 8 }}
{{- end -}}
{{- end }}

{{/* The pods of Deployment and StatefulSet. */}}
{{- define "emotion-worker.podTemplate" -}}
metadata:
  labels:
    {{- include "emotion-worker.podLabels" (list . "worker") | nindent 4 }}
  annotations:
    # Changed settings roll the pods: they are read at the start only.
    {{- $checksum := include "emotion-worker.config" . | sha256sum }}
    {{- merge (dict "checksum/config" $checksum) .Values.podAnnotations | toYaml | nindent 4 }}
spec:
  {{- include "emotion-worker.podBasics" (list . .Values.gpu.enabled) | nindent 2 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "emotion-worker.topologySpread" . }}
  {{- . | nindent 2 }}
  {{- end }}
  # No preStop: SIGTERM drains, and while a hook sleeps the consumer would go on polling.
  terminationGracePeriodSeconds: {{ int .Values.terminationGracePeriodSeconds }}
  {{- with include "emotion-worker.initContainers" . }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "emotion-worker.image" (list . .Values.image) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      # The last line of the log says why a worker ended: `kubectl describe pod` shows it.
      terminationMessagePolicy: FallbackToLogsOnError
      args: [run]
      envFrom:
        {{- include "emotion-worker.envFrom" . | nindent 8 }}
      {{- with .Values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ int .Values.settings.http.port }}
      # Not /readyz: brokers that are away, or a model that loads, are no reason to restart.
      startupProbe:
        {{- include "emotion-worker.probe" (list "/livez" .Values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- include "emotion-worker.probe" (list "/livez" .Values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- include "emotion-worker.probe" (list "/readyz" .Values.probes.readiness) | nindent 8 }}
      resources:
        {{- $gpu := .Values.gpu.enabled }}
        {{- $resources := include "emotion-worker.ofAllProcesses" . | fromYaml }}
        {{- include "emotion-worker.resources" (list . $resources $gpu) | nindent 8 }}
      securityContext:
        {{- toYaml .Values.containerSecurityContext | nindent 8 }}
      volumeMounts:
        {{- include "emotion-worker.volumeMounts" . | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "emotion-worker.volumes" . | nindent 4 }}
{{- end }}
