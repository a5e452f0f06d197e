// Package v3 holds what oapi-codegen makes of openapi/v3.yaml: models, strict echo server, client and the embedded
// document. Nothing here is written by hand but this file; change the document and run make gen. How the types are
// meant to be used stands in openapi/README.md.
package v3

//go:generate make -C ../.. gen
