//go:build tools

package main

// Keeps kwok's version in go.mod: `go build sigs.k8s.io/kwok/cmd/kwok` in this module builds it, as a program of its own.
import _ "sigs.k8s.io/kwok/cmd/kwok"
