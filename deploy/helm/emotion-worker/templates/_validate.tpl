{{/*
What a schema cannot say: values that do not fit one another. All is told at once, a line each.
The worker refuses the same settings when it starts; here they do not get as far.
*/}}
{{- define "emotion-worker.validate" -}}
{{- $problems := list -}}
{{- $kafka := .Values.settings.kafka -}}
{{- $most := include "emotion-worker.mostReplicas" . | int -}}

{{- if not .Values.image.repository -}}
{{- $problems = append $problems "image.repository: not set; build deploy/docker/Dockerfile, push it, and name it here" -}}
{{- end -}}
{{- if not $kafka.bootstrap_servers -}}
{{- $problems = append $problems "settings.kafka.bootstrap_servers: not set; brokers as host:port, several with commas" -}}
{{- end -}}
{{- with include "emotion-worker.groupProblem" . -}}
{{- $problems = append $problems . -}}
{{- end -}}

{{- if gt (int .Values.gpu.count) 1 -}}
{{- $problems = append $problems (printf "gpu.count: %v; a worker uses one GPU and the others would be idle: raise replicaCount or keda.maxReplicas" .Values.gpu.count) -}}
{{- end -}}
{{- if and (or .Values.gpu.enabled (and .Values.training.enabled .Values.training.gpu)) (not .Values.gpu.resource) (not .Values.resourceClaims) -}}
{{- $problems = append $problems "gpu.resource: empty, so nothing gives the pod a GPU; name the device plugin's resource, or give resourceClaims" -}}
{{- end -}}
{{- if and .Values.resourceClaims (not .Values.gpu.enabled) -}}
{{- $problems = append $problems "resourceClaims: gpu.enabled=false has no use for them" -}}
{{- end -}}

{{- $checkpoints := list -}}
{{- with .Values.checkpoint -}}
{{- if .persistentVolumeClaim.claimName }}{{ $checkpoints = append $checkpoints "persistentVolumeClaim.claimName" }}{{ end -}}
{{- if .image.reference }}{{ $checkpoints = append $checkpoints "image.reference" }}{{ end -}}
{{- if .hostPath.path }}{{ $checkpoints = append $checkpoints "hostPath.path" }}{{ end -}}
{{- if .download.url }}{{ $checkpoints = append $checkpoints "download.url" }}{{ end -}}
{{- if and .download.url (not .download.sha256) -}}
{{- $problems = append $problems "checkpoint.download.sha256: not set; what is fetched is checked" -}}
{{- end -}}
{{- end -}}
{{- if ne (len $checkpoints) 1 -}}
{{- $given := ternary (join ", " $checkpoints) "none" (gt (len $checkpoints) 0) -}}
{{- $problems = append $problems (printf "checkpoint: exactly one of persistentVolumeClaim.claimName, image.reference, hostPath.path and download.url is needed; given: %s" $given) -}}
{{- end -}}

{{- /* The worker ends by itself at its deadline; what follows is the interpreter's way out. */ -}}
{{- $grace := addf .Values.settings.drain.deadline 10 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) $grace -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %v would kill a worker that drains; settings.drain.deadline (%v) and 10 s more are needed" .Values.terminationGracePeriodSeconds .Values.settings.drain.deadline) -}}
{{- end -}}

{{- if and $kafka.replica_id (gt $most 1) -}}
{{- $problems = append $problems (printf "settings.kafka.replica_id: %d replicas cannot share one identity; without it, exactly_once takes the pods' names" $most) -}}
{{- end -}}

{{- if regexMatch "^(127[.]|localhost$|\\[?::1\\]?$)" (.Values.settings.http.host | default "") -}}
{{- $problems = append $problems (printf "settings.http.host: nobody outside the pod reaches %s, the kubelet's probes included" .Values.settings.http.host) -}}
{{- end -}}

{{- range $each := concat .Values.extraContainers .Values.extraInitContainers -}}
{{- if has $each.name (list "worker" "checkpoint") -}}
{{- $problems = append $problems (printf "extraContainers, extraInitContainers: %s is the chart's own" $each.name) -}}
{{- end -}}
{{- end -}}
{{- range $name := concat .Values.extraEnv .Values.training.extraEnv -}}
{{- if regexMatch "^(WORKER|TRAIN)_" $name.name -}}
{{- $problems = append $problems (printf "extraEnv: %s is a setting; it belongs to settings or training.settings" $name.name) -}}
{{- else if eq $name.name "NVIDIA_VISIBLE_DEVICES" -}}
{{- $problems = append $problems "extraEnv: NVIDIA_VISIBLE_DEVICES would give the pod GPUs that the scheduler gave to others" -}}
{{- end -}}
{{- end -}}
{{- range $label := concat (keys .Values.podLabels) (keys .Values.commonLabels) -}}
{{- if regexMatch "^(app[.]kubernetes[.]io|helm[.]sh)/" $label -}}
{{- $problems = append $problems (printf "podLabels, commonLabels: %s is the chart's own" $label) -}}
{{- end -}}
{{- end -}}

{{- /* Security, as worker/settings.py has it. */ -}}
{{- $protocol := $kafka.security_protocol -}}
{{- $mechanism := $kafka.sasl_mechanism | default "" -}}
{{- $tls := hasSuffix "SSL" $protocol -}}
{{- $sasl := hasPrefix "SASL_" $protocol -}}
{{- with .Values.credentials -}}
{{- $tokens := list -}}
{{- if .saslToken.secretName }}{{ $tokens = append $tokens "secretName" }}{{ end -}}
{{- if .saslToken.serviceAccount.audience }}{{ $tokens = append $tokens "serviceAccount.audience" }}{{ end -}}
{{- if .saslToken.path }}{{ $tokens = append $tokens "path" }}{{ end -}}
{{- if and $sasl (not $mechanism) -}}
{{- $problems = append $problems (printf "settings.kafka.sasl_mechanism: not set; security_protocol %s needs it" $protocol) -}}
{{- end -}}
{{- if and (not $sasl) (or $mechanism $kafka.sasl_username .saslPassword.secretName $tokens) -}}
{{- $problems = append $problems (printf "settings.kafka.security_protocol: %s has no use for sasl_mechanism, sasl_username, credentials.saslPassword and credentials.saslToken" $protocol) -}}
{{- end -}}
{{- if and $sasl (eq $mechanism "OAUTHBEARER") -}}
{{- if ne (len $tokens) 1 -}}
{{- $given := ternary (join ", " $tokens) "none" (gt (len $tokens) 0) -}}
{{- $problems = append $problems (printf "credentials.saslToken: OAUTHBEARER needs exactly one of secretName, serviceAccount.audience and path; given: %s" $given) -}}
{{- end -}}
{{- if or $kafka.sasl_username .saslPassword.secretName -}}
{{- $problems = append $problems "settings.kafka.sasl_mechanism: OAUTHBEARER has no use for sasl_username and credentials.saslPassword" -}}
{{- end -}}
{{- else if and $sasl $mechanism -}}
{{- if not .saslPassword.secretName -}}
{{- $problems = append $problems (printf "credentials.saslPassword.secretName: not set; %s needs it" $mechanism) -}}
{{- end -}}
{{- if not $kafka.sasl_username -}}
{{- $problems = append $problems (printf "settings.kafka.sasl_username: not set; %s needs it" $mechanism) -}}
{{- end -}}
{{- if $tokens -}}
{{- $problems = append $problems (printf "credentials.saslToken: %s has no use for it" $mechanism) -}}
{{- end -}}
{{- end -}}
{{- if and (not $tls) (or .ca.secretName .client.secretName .clientKeyPassword.secretName) -}}
{{- $problems = append $problems (printf "settings.kafka.security_protocol: %s has no use for credentials.ca, credentials.client and credentials.clientKeyPassword" $protocol) -}}
{{- end -}}
{{- if and .clientKeyPassword.secretName (not .client.secretName) -}}
{{- $problems = append $problems "credentials.clientKeyPassword: needs credentials.client, whose key it opens" -}}
{{- end -}}
{{- end -}}

{{- $topics := list .Values.settings.input.topic .Values.settings.output.topic .Values.settings.dlq.topic -}}
{{- if lt (len (uniq $topics)) 3 -}}
{{- $problems = append $problems (printf "settings: input.topic, output.topic and dlq.topic must be three topics, got %s" (join ", " $topics)) -}}
{{- end -}}
{{- if gt (mulf ($kafka.heartbeat_interval | default 3) 3) ($kafka.session_timeout | default 10 | float64) -}}
{{- $problems = append $problems "settings.kafka.heartbeat_interval: must be at most a third of session_timeout" -}}
{{- end -}}
{{- with .Values.settings.breaker -}}
{{- if gt (float64 (.minimum | default 200)) (float64 (.window | default 1000)) -}}
{{- $problems = append $problems "settings.breaker.minimum: must be at most window" -}}
{{- end -}}
{{- end -}}

{{- with .Values.networkPolicy -}}
{{- if .enabled -}}
{{- range $server := splitList "," $kafka.bootstrap_servers -}}
{{- $port := regexFind ":[0-9]+$" (trim $server) | default ":9092" | trimPrefix ":" -}}
{{- if not (has $port (toStrings $.Values.networkPolicy.kafkaPorts)) -}}
{{- $problems = append $problems (printf "networkPolicy.kafkaPorts: lacks %s, the port of %s" $port (trim $server)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- $rules := .Files.Get "files/rules.yaml" | fromYaml -}}
{{- $alerts := list -}}
{{- range $rules.groups }}{{ range .rules }}{{ if .alert }}{{ $alerts = append $alerts .alert }}{{ end }}{{ end }}{{ end -}}
{{- $thresholds := include "emotion-worker.thresholds" . | fromYaml -}}
{{- range $name, $change := .Values.prometheusRule.alerts -}}
{{- if not (has $name $alerts) -}}
{{- $problems = append $problems (printf "prometheusRule.alerts: there is no alert %s; there are %s" $name (uniq $alerts | sortAlpha | join ", ")) -}}
{{- else if and (hasKey $change "threshold") (not (hasKey $thresholds $name)) -}}
{{- $problems = append $problems (printf "prometheusRule.alerts.%s.threshold: this alert has none; %s have one" $name (keys $thresholds | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}

{{- with .Values.keda -}}
{{- if .enabled -}}
{{- if not .recordsPerSecond -}}
{{- $problems = append $problems "keda.recordsPerSecond: not set; measure rate(worker_records_processed_total[5m]) of one process that has a backlog" -}}
{{- end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $problems = append $problems (printf "keda.minReplicas: %v is more than maxReplicas (%v)" .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if and $.Values.strimzi.topics.enabled .partitions -}}
{{- $problems = append $problems "keda.partitions: strimzi.topics.input.partitions says it" -}}
{{- else -}}
{{- $partitions := ternary $.Values.strimzi.topics.input.partitions .partitions $.Values.strimzi.topics.enabled -}}
{{- if not $partitions -}}
{{- $problems = append $problems "keda.partitions: not set; how many partitions the input topic has" -}}
{{- else if gt (mul (int .maxReplicas) (int $.Values.processes)) (int $partitions) -}}
{{- $each := ternary "" (printf " of %v processes" $.Values.processes) (eq (int $.Values.processes) 1) -}}
{{- $problems = append $problems (printf "keda.maxReplicas: %v pods%s for %v partitions; a pod without a partition does nothing" .maxReplicas $each $partitions) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $mechanism "OAUTHBEARER") (not .triggerAuthentication) -}}
{{- $problems = append $problems "keda.triggerAuthentication: not set; OAUTHBEARER needs one of your own" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with .Values.strimzi -}}
{{- if and (or .topics.enabled .user.enabled) (not .cluster) -}}
{{- $problems = append $problems "strimzi.cluster: not set; the name of the Kafka resource" -}}
{{- end -}}
{{- if and .topics.enabled (contains "compact" (index .topics.dlq.config "cleanup.policy" | default "")) -}}
{{- $problems = append $problems "strimzi.topics.dlq.config: a compacted topic keeps one dead letter of a key" -}}
{{- end -}}
{{- if .user.enabled -}}
{{- $user := .user.name | default (include "emotion-worker.fullname" $) -}}
{{- if and (eq .user.authentication "scram-sha-512") (not (and (eq $mechanism "SCRAM-SHA-512") (eq ($kafka.sasl_username | default "") $user))) -}}
{{- $problems = append $problems (printf "strimzi.user: scram-sha-512 needs settings.kafka.sasl_mechanism SCRAM-SHA-512 and sasl_username %s" $user) -}}
{{- end -}}
{{- if and (eq .user.authentication "tls") (not $.Values.credentials.client.secretName) -}}
{{- $problems = append $problems "strimzi.user: tls needs credentials.client, the KafkaUser's Secret" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- with .Values.training -}}
{{- if .enabled -}}
{{- if not .image.repository -}}
{{- $problems = append $problems "training.image.repository: not set; build the Dockerfile's target `trainer`, push it, and name it here" -}}
{{- end -}}
{{- if eq (empty .output.persistentVolumeClaim.claimName) (empty .output.hostPath.path) -}}
{{- $problems = append $problems "training.output: exactly one of persistentVolumeClaim.claimName and hostPath.path is needed" -}}
{{- end -}}
{{- if and .data.persistentVolumeClaim.claimName .data.hostPath.path -}}
{{- $problems = append $problems "training.data: at most one of persistentVolumeClaim.claimName and hostPath.path" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n%s" (join "\n" $problems)) -}}
{{- end -}}
{{- end }}
