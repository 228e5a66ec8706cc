package run

import (
	"encoding/json"
	"io"
	"path/filepath"
)

// FindingsFile is the name of the findings in a run folder.
const FindingsFile = "findings.json"

// Findings are what an experiment found, in words and tables for its page. The
// full numbers are in a file of the experiment's own.
type Findings struct {
	Lead    string           `json:"lead"`    // what was run, in a line or two
	Tables  []Table          `json:"tables"`  // that stand on their own, in order
	Figures map[string]Table `json:"figures"` // the numbers of each figure, by its name
}

// Table is numbers and words in rows, all of one length, that of Columns.
type Table struct {
	Title   string     `json:"title,omitempty"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Note    string     `json:"note,omitempty"` // how to read it
}

// WriteFindings writes findings.json of the run folder dir.
func WriteFindings(dir string, f Findings) error {
	return WriteFileAtomic(filepath.Join(dir, FindingsFile), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		return enc.Encode(f)
	})
}
