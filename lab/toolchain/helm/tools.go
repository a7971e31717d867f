//go:build tools

// Package tools pins the helm binary that the lab builds from source.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
