package bundle

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxRows bounds the rows of one result; the rest is counted in one more row.
const maxRows = 50

const (
	maxSourceLine = 160 // characters of a source line that are shown
	maxRowText    = 600
)

func warnRow(file, text string) deploy.Diagnostic {
	return deploy.Diagnostic{Severity: "warning", File: file, Text: text}
}

const noLoader = "no loader is configured for"

var unresolved = regexp.MustCompile(`^Could not resolve "(.+?)"`)

// diagnose turns esbuild's messages into rows.
func (l *loader) diagnose(severity string, msgs []api.Message) []deploy.Diagnostic {
	var rows []deploy.Diagnostic
	for i, m := range msgs {
		if i >= maxRows { // only counted: a suggestion for each of 10,000 takes minutes
			rows = append(rows, deploy.Diagnostic{Severity: severity})
			continue
		}
		d := deploy.Diagnostic{Severity: severity, Text: cutText(plainNames(l.files.project, m.Text), maxRowText)}
		if at := m.Location; at != nil {
			d.File = plainName(l.files.project, at.File)
			d.Line = at.Line
			line := at.LineText
			col := min(at.Column, len(line))
			d.Column = utf8.RuneCountInString(line[:col]) + 1
			d.SourceLine = aroundColumn(line, col)
			if at.Suggestion != "" {
				d.Suggestion = "Write " + at.Suggestion + " instead."
			}
		}
		switch w := unresolved.FindStringSubmatch(m.Text); {
		case w != nil && strings.Contains(m.Text, "which the alias"):
			d.Suggestion = "Correct \"alias\" in the wrangler configuration: paths are relative to its folder."
		case strings.HasPrefix(m.Text, noLoader):
			d.Suggestion = fmt.Sprintf("Add a rule to the wrangler configuration, such as \"rules\": [{\"type\": \"Data\", \"globs\": [\"**/*%s\"]}], or serve the file as a static asset.", path.Ext(m.Text))
		case w != nil:
			d.Suggestion = l.suggestImport(d.File, w[1])
		case d.Suggestion == "":
			d.Suggestion = l.noteOf(m)
		}
		rows = append(rows, d)
	}
	return rows
}

// noteOf takes esbuild's first note that is about the code; those about esbuild's own
// options and about plugins help no one here.
func (l *loader) noteOf(m api.Message) string {
	for _, n := range m.Notes {
		text := plainNames(l.files.project, n.Text)
		if text == "" || strings.Contains(text, "plugin") || strings.Contains(text, "Platform:") || strings.Contains(text, "mark the path") {
			continue
		}
		if n.Location != nil {
			text += fmt.Sprintf(" (%s:%d)", plainName(l.files.project, n.Location.File), n.Location.Line)
		}
		return cutText(text, maxRowText)
	}
	return ""
}

func cutText(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n]) + "…"
}

// aroundColumn shows the part of a line that a byte offset lies in.
func aroundColumn(line string, col int) string {
	if utf8.RuneCountInString(line) <= maxSourceLine {
		return line
	}
	before := []rune(line[:col])
	start := max(0, len(before)-maxSourceLine/2)
	rest := []rune(line)[start:]
	return string(rest[:min(maxSourceLine, len(rest))])
}

// suggestImport says what to do about an import that leads nowhere.
func (l *loader) suggestImport(importer, spec string) string {
	bare := strings.TrimPrefix(spec, "node:")
	if isNodeModule("node:" + bare) {
		switch l.mode {
		case nodeOff, nodeALS:
			return fmt.Sprintf("%q is a module of Node.js: add the compatibility flag nodejs_compat, with a compatibility date of 2024-09-23 or later.", spec)
		case nodeV1:
			return fmt.Sprintf("Write \"node:%s\", or set the compatibility date to 2024-09-23 or later.", bare)
		}
		return fmt.Sprintf("Write \"node:%s\".", bare)
	}
	if strings.HasPrefix(spec, "node:") {
		return "The Workers runtime has no such Node.js module; remove the import."
	}
	if strings.HasPrefix(spec, "/") {
		return "Import by a path relative to the importing file; absolute paths are addresses of a machine."
	}
	if isPackagePath(spec) {
		name, _, ok := packageName(spec)
		if !ok || strings.HasPrefix(spec, "#") {
			return "Add it to \"imports\" in package.json, or import a file by a relative path."
		}
		if l.files.isFile(path.Join(l.files.project, path.Dir(importer), spec)) || l.closeFile(importer, "./"+spec) == "./"+spec {
			return fmt.Sprintf("To import the file next to this one write \"./%s\".", spec)
		}
		if d := l.files.dir(path.Join(l.files.project, "node_modules", name)); d != nil {
			return fmt.Sprintf("The package %q is installed, but has no such entry for this kind of import; see \"exports\" in its package.json.", name)
		}
		return fmt.Sprintf("The package %q is not installed. For inline files add it to \"dependencies\" of a package.json among the files; in a folder run npm install %s.", name, name)
	}
	if near := l.closeFile(importer, spec); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	return "No such file in the project; check the path and that the file is among those given."
}

// closeFile finds the file of the project that comes closest to a relative import.
func (l *loader) closeFile(importer, spec string) string {
	from := path.Join(l.files.project, path.Dir(importer))
	name, ok := joinInside(from, spec)
	if !ok {
		return ""
	}
	best, bestDistance := "", farApart
	for _, dir := range []string{path.Dir(name), from} {
		d := l.files.dir(dir)
		if d == nil {
			continue
		}
		for base, kind := range d.entries {
			if kind != kindFile && kind != kindLink {
				continue
			}
			distance := editDistance(path.Base(name), base)
			if stem := strings.TrimSuffix(base, path.Ext(base)); isCode(base) {
				distance = min(distance, editDistance(path.Base(name), stem))
			}
			candidate := relativeTo(from, path.Join(dir, base))
			if !strings.HasPrefix(candidate, "../") {
				candidate = "./" + candidate
			}
			if distance < bestDistance || distance == bestDistance && best != "" && candidate < best {
				best, bestDistance = candidate, distance
			}
		}
	}
	if bestDistance > (len(path.Base(name))+1)/2 {
		return ""
	}
	return best
}

func isCode(name string) bool {
	switch path.Ext(name) {
	case ".ts", ".tsx", ".js", ".jsx", ".mjs", ".mts", ".cjs", ".cts":
		return true
	}
	return false
}

// farApart is the distance from which on two names have nothing to do with each other.
const farApart = 4

// editDistance is Levenshtein's, exact below farApart.
func editDistance(a, b string) int {
	const longest = 128
	x, y := []rune(a), []rune(b)
	if len(x) > longest || len(y) > longest || len(x)-len(y) >= farApart || len(y)-len(x) >= farApart {
		return longest
	}
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j := range y {
			cost := diagonal
			if x[i] != y[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
		if slices.Min(row) >= farApart {
			return longest
		}
	}
	return row[len(y)]
}

// limitRows keeps the first rows, errors before warnings, and counts the rest.
func limitRows(rows []deploy.Diagnostic) []deploy.Diagnostic {
	sorted := make([]deploy.Diagnostic, 0, len(rows))
	for _, severity := range []string{"error", "warning"} {
		for _, d := range rows {
			if d.Severity == severity {
				sorted = append(sorted, d)
			}
		}
	}
	if len(sorted) <= maxRows {
		return sorted
	}
	rest := len(sorted) - maxRows
	severity := sorted[maxRows].Severity
	return append(sorted[:maxRows], deploy.Diagnostic{Severity: severity, Text: fmt.Sprintf("and %d more", rest)})
}
