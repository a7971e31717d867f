//go:build tools

// Package tools pins the kwok binary that the lab builds from source.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
