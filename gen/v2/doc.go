// Package v2 holds what oapi-codegen makes of openapi/v2.yaml: models, strict echo server, client and the embedded
// document. Nothing here is written by hand but this file; change the document and run make gen. How the types are
// meant to be used stands in openapi/README.md.
package v2

//go:generate make -C ../.. gen
