{{- define "kura.image" -}}
{{- with $.Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "kura.envoyImage" -}}
{{- with $.Values.envoyImage -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* The name changes with the content, so that a changed bootstrap reaches the Pods. */ -}}
{{- define "kura.bootstrapName" -}}
kura-envoy-{{ include "kura.bootstrap" $ | sha256sum | trunc 10 }}
{{- end -}}

{{- define "kura.directories" -}}
{{- range $i, $disk := $.Values.disks }}{{ if $i }},{{ end }}/data/{{ $i }}/kura{{ end -}}
{{- end -}}
