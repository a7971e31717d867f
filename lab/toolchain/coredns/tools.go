//go:build tools

// Package tools pins the CoreDNS binary that the lab builds from source.
package tools

import _ "github.com/coredns/coredns"
