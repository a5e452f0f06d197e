package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/getkin/kin-openapi/openapi3"
)

// Shape says what the success answer of a v3 call is made of. With it the code dialect is a mechanical re-wrapping of
// the items dialect, done by tools/dialect to the document and by the server to each answer. It is the extension
// x-lacewing-shape of the operation.
type Shape string

// The shapes, with the answer in the items dialect and in the code dialect.
const (
	ShapeValue   Shape = "value"   // v                        {"code":0,"data":v}
	ShapePage    Shape = "page"    // {"items":i,"meta":m}     {"code":0,"data":i,"meta":m}
	ShapeDone    Shape = "done"    // "ok"                     {"code":0}
	ShapeResult  Shape = "result"  // {"code":n}               {"code":n}, with a message when n is not 0
	ShapeCreated Shape = "created" // 201 v                    200 {"code":0,"data":v}
)

// CodeAnswer is an answer of the code dialect. Its status is 200 for everything but a missing leader (503).
type CodeAnswer struct {
	Code    int    `json:"code"`
	Data    any    `json:"data,omitempty"`
	Meta    any    `json:"meta,omitempty"`
	Message string `json:"message,omitempty"`
}

// resultMessages are the texts that the code dialect adds to the codes of publish, subscribe and unsubscribe.
var resultMessages = map[int]string{112: "session_not_found", 115: "bad_topic"}

// Code wraps the success answer of a call for the code dialect. The answer is either a generated response value
// (v3.ListConnections200JSONResponse, ...) or decoded JSON. An answer that is not of this shape is an error.
func (s Shape) Code(answer any) (CodeAnswer, error) {
	switch s {
	case ShapeValue, ShapeCreated:
		return CodeAnswer{Data: answer}, nil
	case ShapeDone:
		return CodeAnswer{}, nil
	case ShapePage:
		items, ok1 := member(answer, "items", "Items")
		meta, ok2 := member(answer, "meta", "Meta")
		if !ok1 || !ok2 {
			return CodeAnswer{}, fmt.Errorf("wrap %T: not a page", answer)
		}
		return CodeAnswer{Data: items, Meta: meta}, nil
	case ShapeResult:
		v, ok := member(answer, "code", "Code")
		if !ok {
			return CodeAnswer{}, fmt.Errorf("wrap %T: not a result", answer)
		}
		var code int
		switch rv := reflect.ValueOf(v); {
		case rv.CanInt():
			code = int(rv.Int())
		case rv.CanFloat():
			code = int(rv.Float())
		default:
			return CodeAnswer{}, fmt.Errorf("wrap %T: code is a %T", answer, v)
		}
		return CodeAnswer{Code: code, Message: resultMessages[code]}, nil
	}
	return CodeAnswer{}, fmt.Errorf("wrap %T: unknown shape %q", answer, s)
}

// member reads a member of a decoded object or a field of a struct.
func member(v any, key, field string) (any, bool) {
	if m, ok := v.(map[string]any); ok {
		x, ok := m[key]
		return x, ok
	}
	rv := reflect.Indirect(reflect.ValueOf(v))
	if rv.Kind() != reflect.Struct {
		return nil, false
	}
	f := rv.FieldByName(field)
	if !f.IsValid() {
		return nil, false
	}
	return f.Interface(), true
}

// Shapes maps the operation ids of a v3 document in the items dialect to their shapes.
func Shapes(doc *openapi3.T) (map[string]Shape, error) {
	shapes := make(map[string]Shape)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			s, ok := op.Extensions["x-lacewing-shape"].(string)
			if !ok {
				return nil, fmt.Errorf("%s %s: no x-lacewing-shape", method, path)
			}
			shapes[op.OperationID] = Shape(s)
		}
	}
	return shapes, nil
}

// RefusalCode is the code that a refused call (500 with a message in the items dialect) has in the code dialect: 102,
// unless the operation says otherwise.
func RefusalCode(op *openapi3.Operation) int {
	switch v := op.Extensions["x-lacewing-refusal-code"].(type) {
	case float64:
		return int(v)
	case int:
		return v
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
	}
	return 102
}

// Listeners names the listeners that serve an operation: "api", "dashboard" or both.
func Listeners(op *openapi3.Operation) []string {
	list, _ := op.Extensions["x-lacewing-listeners"].([]any)
	names := make([]string, 0, len(list))
	for _, v := range list {
		if s, ok := v.(string); ok {
			names = append(names, s)
		}
	}
	return names
}
