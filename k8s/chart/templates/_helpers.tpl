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

{{- define "kura.origins" -}}
{{- if $.Values.origin.origins -}}
apiVersion: kura/v1
kind: Origins
origins:
{{- toYaml $.Values.origin.origins | nindent 2 }}
{{- else -}}
{{ $.Files.Get "files/origins.yaml" | trimSuffix "\n" }}
{{- end -}}
{{- end -}}

{{- /* A folder for each origin. A Secret has the keys of its kind, and not the others. */ -}}
{{- define "kura.originSecrets" -}}
{{- range $origin, $secret := $.Values.origin.secrets }}
- secret:
    name: {{ $secret }}
    optional: true
    items:
{{- range $key := list "access-key-id" "secret-access-key" "session-token" "authorization" }}
      - key: {{ $key }}
        path: {{ $origin }}/{{ $key }}
{{- end }}
{{- else -}}
[]
{{- end }}
{{- end -}}

{{- define "kura.directories" -}}
{{- range $i, $disk := $.Values.disks }}{{ if $i }},{{ end }}/data/{{ $i }}/kura{{ end -}}
{{- end -}}
