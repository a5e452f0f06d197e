// Package node holds what oapi-codegen makes of openapi/node.yaml: models, strict echo server, client and the embedded
// document. Nothing here is written by hand but this file; change the document and run make gen.
package node

//go:generate make -C ../.. gen
