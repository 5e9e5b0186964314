{{- /* What the schema of the values cannot express. */ -}}
{{- $c := $.Values.components -}}
{{- if and $.Values.disks (not $c.hostpath) }}
{{- fail "disks needs components.hostpath: true" }}
{{- end }}
{{- if and $c.secondDiskSize (not $c.hostpath) }}
{{- fail "components.secondDiskSize needs components.hostpath: true" }}
{{- end }}
{{- $isOld := semverCompare "<1.35.0-0" $.Capabilities.KubeVersion.Version }}
{{- if and $isOld (not $c.kubernetes133) (lookup "v1" "Namespace" "" "kube-system") }}
{{- fail "this cluster is older than Kubernetes 1.35: set components.kubernetes133: true" }}
{{- end }}
{{- if and $c.monitoring $c.monitoringPlain }}
{{- fail "set components.monitoring or components.monitoringPlain, not both" }}
{{- end }}
{{- /* Without a cluster, as in helm template, lookup finds nothing. */ -}}
{{- if lookup "v1" "Namespace" "" "kube-system" }}
{{- $ofTls := ternary (list "kura-tls" "kura-envoy-tls" "kura-eds-tls") (list) $c.tls }}
{{- range $secret := concat (list $.Values.credentialSecret) $ofTls }}
{{- if not (lookup "v1" "Secret" $.Release.Namespace $secret) }}
{{- fail (printf "Secret %s does not exist in namespace %s: create it first (docs/install.md)" $secret $.Release.Namespace) }}
{{- end }}
{{- end }}
{{- end }}
