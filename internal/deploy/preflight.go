package deploy

import (
	"context"
	"fmt"
	"regexp"
)

var workerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// preflight refuses, before anything is spent, what the API would refuse after. It
// gives warnings for what might be refused.
func preflight(a *Artifact) (warnings []string, err error) {
	if len(a.Name) > maxNameLength || !workerName.MatchString(a.Name) {
		return nil, Errorf(CodeNameInvalid,
			"Give a name of lower-case letters, digits and dashes, at most 63 long, that neither begins nor ends with a dash.",
			"%q can't be a Worker's name: it becomes a part of the host name", a.Name)
	}
	if a.GzipBytes > maxGzipBytes {
		return nil, Errorf(CodeTooLarge,
			"Leave out or shrink the largest inputs (see largest in bundle's result), set minify: true, or move data into static assets.",
			"the Worker is %s gzipped; a temporary account takes at most %s%s", mib(a.GzipBytes), mib(maxGzipBytes), largest(a))
	}
	if a.GzipBytes > warnGzipBytes {
		warnings = append(warnings, fmt.Sprintf("The Worker is %s gzipped; temporary accounts were seen to refuse more than 1 MiB.%s",
			mib(a.GzipBytes), largest(a)))
	}
	if err := preflightResources(a); err != nil {
		return nil, err
	}
	if a.Assets == nil {
		return warnings, nil
	}
	if n := len(a.Assets.Files); n > maxAssets {
		return nil, Errorf(CodeTooManyFiles, "Deploy fewer static files; .assetsignore can leave some out.",
			"%d static files; a temporary account takes at most %d", n, maxAssets)
	}
	for _, f := range a.Assets.Files {
		if len(f.Content) > maxAssetBytes {
			return nil, Errorf(CodeTooLarge, "Shrink that file or leave it out by .assetsignore.",
				"the static file %s has %s; a temporary account takes at most %s a file", f.Path, mib(int64(len(f.Content))), mib(maxAssetBytes))
		}
	}
	return warnings, nil
}

// boot starts the artifact in the real runtime where there is one, so that an error
// at start costs no account. That the boot itself can't be tried is no reason to refuse.
func (s *Service) boot(ctx context.Context, a *Artifact) error {
	if s.cfg.Booter == nil || a.MainModule == "" {
		return nil
	}
	err := s.cfg.Booter.Boot(ctx, a)
	if e := startError(a, err); e != nil {
		return e
	}
	return ctx.Err()
}

// startError points a start failure at the source it came from; nil for other errors.
func startError(a *Artifact, err error) *Error {
	if !IsCode(err, CodeStartFailed) {
		return nil
	}
	e := *AsError(err)
	if at := sourcePlace(a, e.Message); at != "" {
		e.Message += " (in the source: " + at + ")"
	}
	if e.Next == "" {
		e.Next = "Fix the code that runs when the module is loaded, then call deploy_temporary again; nothing was replaced."
	}
	return &e
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func largest(a *Artifact) string {
	if len(a.Largest) == 0 {
		return ""
	}
	return fmt.Sprintf(" (largest input: %s, %s)", a.Largest[0].Name, mib(a.Largest[0].Bytes))
}
