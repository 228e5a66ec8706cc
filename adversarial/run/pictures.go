package run

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
)

// unitDomain is the domain of images in [0,1].
const unitDomain = "unit"

// PicturesFile is the name of the pictures in a run folder.
const PicturesFile = "pictures.safetensors"

// Pictures are what the latest evaluation of a run left to be looked at.
type Pictures struct {
	Step    int64    `json:"step"`   // of the network
	Attack  string   `json:"attack"` // in the field's notation
	Domain  string   `json:"domain"` // of the examples: "unit" for images in [0,1]
	Classes []string `json:"classes"`

	X, Adv              Array   `json:"-"` // examples before and after the attack (N,C,H,W)
	Labels, Clean, Pred []int32 `json:"-"` // labels, and predictions before and after (N)
	Filters             Array   `json:"-"` // of the first layer (filters, channels, h, w); none without a Name
}

// Array is a small tensor of float32.
type Array struct {
	Name   string
	Shape  []int
	Values []float32
}

// The names of the tensors in the file. The filters' own name follows theirs.
const (
	picX       = "x"
	picAdv     = "x_adv"
	picLabels  = "y"
	picClean   = "clean_pred"
	picPred    = "adv_pred"
	picFilters = "filters/"
	picAbout   = "pictures" // metadata
)

// WritePictures writes pictures.safetensors of the run folder dir.
func WritePictures(dir string, p *Pictures) error {
	about, err := json.Marshal(p)
	if err != nil {
		return err
	}
	t := &Tensors{Metadata: map[string]string{picAbout: string(about)}}
	add := func(name, dtype string, shape []int, data any) {
		b, err := binary.Append(nil, binary.LittleEndian, data)
		if err != nil {
			panic("BUG: run: pictures: " + err.Error())
		}
		t.List = append(t.List, Tensor{Name: name, DType: dtype, Shape: shape, Data: b})
	}
	add(picX, "F32", p.X.Shape, p.X.Values)
	add(picAdv, "F32", p.Adv.Shape, p.Adv.Values)
	for name, v := range map[string][]int32{picLabels: p.Labels, picClean: p.Clean, picPred: p.Pred} {
		add(name, "I32", []int{len(v)}, v)
	}
	if p.Filters.Name != "" {
		add(picFilters+p.Filters.Name, "F32", p.Filters.Shape, p.Filters.Values)
	}
	return WriteFileAtomic(filepath.Join(dir, PicturesFile), func(w io.Writer) error { return WriteSafetensors(w, t) })
}

// Pictures reads pictures.safetensors. What it returns fits together: shapes,
// numbers of examples, and labels and predictions that are classes.
func (f *Folder) Pictures() (*Pictures, error) {
	t, err := f.Tensors(PicturesFile)
	if err != nil {
		return nil, err
	}
	p := &Pictures{}
	if err = json.Unmarshal([]byte(t.Metadata[picAbout]), p); err == nil {
		err = p.take(t)
	}
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return nil, fileError("read", filepath.Join(f.Dir, PicturesFile), err)
	}
	return p, nil
}

func (p *Pictures) take(t *Tensors) error {
	for _, x := range t.List {
		filters, isFilters := strings.CutPrefix(x.Name, picFilters)
		floats := map[string]*Array{picX: &p.X, picAdv: &p.Adv}[x.Name]
		ints := map[string]*[]int32{picLabels: &p.Labels, picClean: &p.Clean, picPred: &p.Pred}[x.Name]
		if isFilters {
			floats = &p.Filters
		}
		switch {
		case floats != nil && x.DType == "F32":
			*floats = Array{Name: x.Name, Shape: x.Shape, Values: make([]float32, len(x.Data)/4)}
			for i := range floats.Values {
				floats.Values[i] = math.Float32frombits(binary.LittleEndian.Uint32(x.Data[4*i:]))
			}
		case ints != nil && x.DType == "I32":
			*ints = make([]int32, len(x.Data)/4)
			for i := range *ints {
				(*ints)[i] = int32(binary.LittleEndian.Uint32(x.Data[4*i:]))
			}
		default:
			return fmt.Errorf("an unknown tensor %q of %s", x.Name, x.DType)
		}
		if isFilters {
			p.Filters.Name = filters
		}
	}
	return nil
}

func (p *Pictures) check() error {
	n := len(p.Labels)
	rank4 := func(a Array) bool {
		return len(a.Shape) == 4 && a.Shape[1] > 0 && a.Shape[2] > 0 && a.Shape[3] > 0
	}
	switch {
	case !rank4(p.X) || !rank4(p.Adv) || p.X.Shape[0] != n || len(p.Adv.Values) != len(p.X.Values) || p.Adv.Shape[1] != p.X.Shape[1] || p.Adv.Shape[2] != p.X.Shape[2],
		len(p.Clean) != n || len(p.Pred) != n:
		return errors.New("its tensors do not fit together")
	case p.Filters.Name != "" && (!rank4(p.Filters) || p.Filters.Shape[0] == 0):
		return fmt.Errorf("filters of shape %v: want four axes", p.Filters.Shape)
	}
	for _, list := range [][]int32{p.Labels, p.Clean, p.Pred} {
		for _, c := range list {
			if c < 0 || int(c) >= len(p.Classes) {
				return fmt.Errorf("class %d of %d", c, len(p.Classes))
			}
		}
	}
	return nil
}
