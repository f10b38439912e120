{{/*
What an alert compares with, as it stands in files/rules.yaml: prometheusRule.alerts.NAME.threshold
takes the place of the number. Alerts that are not here compare with nothing that has a measure.
*/}}
{{- define "emotion-worker.thresholds" -}}
EmotionWorkerStalled: "> 180"
EmotionWorkerBacklogDrainSlow: "> 300"
EmotionWorkerDeadLetterRatioHigh: "> 0.05"
EmotionWorkerOutputsRefused: "> 10"
EmotionWorkerLatencyP99High: "> 5"
EmotionWorkerGpuIdleWithBacklog: "> 60"
EmotionWorkerRebalanceStorm: "> 3"
EmotionWorkerPredictionDrift: "> 0.2"
EmotionWorkerAbstainedRatioHigh: "> 0.5"
EmotionWorkerLagWithoutProgress: "[5m]) > 0"
EmotionWorkerLatencyBudgetBurn: "* 0.01"
EmotionWorkerDeadLetterBudgetBurn: "* 0.01"
{{- end }}

{{/* The rules of all releases, with what prometheusRule changes of them. */}}
{{- define "emotion-worker.sharedRules" -}}
{{- $values := .Values.prometheusRule -}}
{{- $rules := .Files.Get "files/rules.yaml" | required "files/rules.yaml is not in the chart" | fromYaml -}}
{{- $published := "https://github.com/emotion-stream/emotion-stream/blob/main/deploy/runbooks.md" -}}
{{- $thresholds := include "emotion-worker.thresholds" . | fromYaml -}}
{{- $groups := list -}}
{{- range $group := $rules.groups -}}
{{- $kept := list -}}
{{- range $rule := $group.rules -}}
{{- $change := get $values.alerts ($rule.alert | default "") | default dict -}}
{{- if $rule.alert -}}
{{- $labels := merge (dict) $rule.labels $values.alertLabels -}}
{{- if $change.severity }}{{ $_ := set $labels "severity" $change.severity }}{{ end -}}
{{- $_ := set $rule "labels" $labels -}}
{{- if hasKey $change "for" }}{{ $_ := set $rule "for" $change.for }}{{ end -}}
{{- if not (kindIs "invalid" $change.threshold) -}}
{{- $now := get $thresholds $rule.alert -}}
{{- $then := regexReplaceAll "[0-9.]+$" $now (toString $change.threshold) -}}
{{- $_ := set $rule "expr" (replace $now $then $rule.expr) -}}
{{- end -}}
{{- end -}}
{{- if ne (toString $change.enabled) "false" }}{{ $kept = append $kept $rule }}{{ end -}}
{{- end -}}
{{- if $kept }}{{ $groups = append $groups (merge (dict "rules" $kept) $group) }}{{ end -}}
{{- end -}}
{{ toYaml $groups | replace $published $values.runbookBaseUrl }}
{{- end }}

{{/* What this release says to them. */}}
{{- define "emotion-worker.releaseRules" -}}
{{- $text := .Files.Get "files/release.yaml" | required "files/release.yaml is not in the chart" -}}
{{- $replicas := ternary .Values.keda.minReplicas .Values.replicaCount .Values.keda.enabled | int -}}
{{- $matchers := .Values.prometheusRule.release.kafkaExporterMatchers -}}
{{- $text = replace "REPLICAS" (toString $replicas) $text -}}
{{- $text = replace "NAMESPACE" .Release.Namespace $text -}}
{{- $text = replace "NAME\"" (printf "%s\"" (include "emotion-worker.fullname" .)) $text -}}
{{- $text = replace "RELEASE" .Release.Name $text -}}
{{- /* Last what may have any letter: a quote in it is escaped, so it holds no such mark. */ -}}
{{- $text = replace "\"GROUP\"" (include "emotion-worker.groupId" . | quote) $text -}}
{{- $topic := quote .Values.settings.input.topic -}}
{{- $text = replace "\"TOPIC\"MATCHERS" (ternary (printf "%s, %s" $topic $matchers) $topic (ne $matchers "")) $text -}}
{{- $rules := fromYaml $text -}}
{{ toYaml $rules.groups }}
{{- end }}
