package tools

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// sourceArgs are the arguments that say what to bundle; bundle and deploy_temporary
// share them.
type sourceArgs struct {
	ProjectDir         string    `json:"project_dir,omitempty" desc:"Project folder, inside the allowed roots"`
	Files              []fileArg `json:"files,omitempty" desc:"The project inline; may include a wrangler configuration"`
	Entry              string    `json:"entry,omitempty" desc:"Main module; default: found"`
	Name               string    `json:"name,omitempty" desc:"Worker name: a-z, 0-9, dashes"`
	Environment        string    `json:"environment,omitempty" desc:"Wrangler environment"`
	CompatibilityDate  string    `json:"compatibility_date,omitempty" desc:"YYYY-MM-DD"`
	CompatibilityFlags []string  `json:"compatibility_flags,omitempty"`
	Minify             bool      `json:"minify,omitempty"`
}

type fileArg struct {
	Path     string `json:"path" desc:"e.g. src/index.ts"`
	Content  string `json:"content"`
	Encoding string `json:"encoding,omitempty" enum:"utf8,base64"`
}

// source turns the arguments into a Source.
func (a *sourceArgs) source() (deploy.Source, error) {
	src := deploy.Source{
		ProjectDir: a.ProjectDir, Entry: a.Entry, Name: a.Name, Environment: a.Environment,
		CompatibilityDate: a.CompatibilityDate, CompatibilityFlags: a.CompatibilityFlags, Minify: a.Minify,
	}
	if a.ProjectDir != "" && len(a.Files) > 0 {
		return src, twoSources("project_dir and files")
	}
	for i, f := range a.Files {
		content := []byte(f.Content)
		if f.Encoding == "base64" {
			var err error
			if content, err = base64.StdEncoding.DecodeString(strings.TrimRight(f.Content, "\r\n")); err != nil {
				return src, deploy.Errorf(deploy.CodeInvalidArgument,
					"Send standard base64 with padding, or leave encoding out for text.",
					"files[%d].content (%s) is not base64: %w", i, clip(f.Path, 80), err)
			}
		}
		src.Files = append(src.Files, deploy.File{Path: f.Path, Content: content})
	}
	return src, nil
}

// given names the arguments that were set.
func (a *sourceArgs) given() []string {
	var names []string
	for _, one := range []struct {
		name string
		set  bool
	}{
		{"project_dir", a.ProjectDir != ""},
		{"files", len(a.Files) > 0},
		{"entry", a.Entry != ""},
		{"name", a.Name != ""},
		{"environment", a.Environment != ""},
		{"compatibility_date", a.CompatibilityDate != ""},
		{"compatibility_flags", len(a.CompatibilityFlags) > 0},
		{"minify", a.Minify},
	} {
		if one.set {
			names = append(names, one.name)
		}
	}
	return names
}

func twoSources(what string) error {
	return &deploy.Error{
		Code: deploy.CodeTwoSources, Message: fmt.Sprintf("%s were both given", what),
		Next: "Give exactly one of project_dir, files and bundle_id.",
	}
}
