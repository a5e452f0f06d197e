package openapi

import (
	"encoding/json"
	"testing"
)

func TestShapeCode(t *testing.T) {
	type row struct {
		Node string `json:"node"`
	}
	type page struct {
		Items []row `json:"items"`
		Meta  struct {
			Count int `json:"count"`
		} `json:"meta"`
	}
	type code int
	tests := []struct {
		name   string
		shape  Shape
		answer any
		want   string
	}{
		{"value", ShapeValue, []row{{"a"}}, `{"code":0,"data":[{"node":"a"}]}`},
		{"empty list stays", ShapeValue, []row{}, `{"code":0,"data":[]}`},
		{"done", ShapeDone, "ok", `{"code":0}`},
		{"page of a struct", ShapePage, page{Items: []row{{"a"}}}, `{"code":0,"data":[{"node":"a"}],"meta":{"count":0}}`},
		{"page of decoded JSON", ShapePage, map[string]any{"items": []any{}, "meta": map[string]any{"page": 1}}, `{"code":0,"data":[],"meta":{"page":1}}`},
		{"result", ShapeResult, struct{ Code code }{0}, `{"code":0}`},
		{"offline", ShapeResult, struct{ Code code }{112}, `{"code":112,"message":"session_not_found"}`},
		{"bad topic", ShapeResult, map[string]any{"code": 115.0}, `{"code":115,"message":"bad_topic"}`},
		{"created", ShapeCreated, map[string]any{"who": "x"}, `{"code":0,"data":{"who":"x"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := tt.shape.Code(tt.answer)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestShapeCodeRefusesOtherShapes(t *testing.T) {
	for _, tt := range []struct {
		shape  Shape
		answer any
	}{{ShapePage, []int{1}}, {ShapePage, "ok"}, {ShapePage, nil}, {ShapeResult, "ok"}, {ShapeResult, map[string]any{"code": "x"}}, {"nonsense", 1}} {
		if a, err := tt.shape.Code(tt.answer); err == nil {
			t.Errorf("%s of %v: got %+v, want an error", tt.shape, tt.answer, a)
		}
	}
}

func TestShapesOfEveryOperation(t *testing.T) {
	doc := load(t, V3Items)
	shapes, err := Shapes(doc)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[Shape]int{}
	for _, s := range shapes {
		counts[s]++
	}
	if len(shapes) != 66 || counts[ShapePage] != 8 || counts[ShapeResult] != 3 || counts[ShapeCreated] != 1 {
		t.Errorf("%d operations, shapes %v", len(shapes), counts)
	}
	for _, path := range []string{"/connections/{clientid}", "/connections/{clientid}/acl/{topic}"} {
		if got := RefusalCode(doc.Paths.Value(path).Delete); got != 112 {
			t.Errorf("refusal of DELETE %s has code %d, want 112", path, got)
		}
	}
	if got := RefusalCode(doc.Paths.Value("/nodes/{node}/plugins/{plugin}/load").Put); got != 102 {
		t.Errorf("refusal of load_plugin has code %d, want 102", got)
	}
}
