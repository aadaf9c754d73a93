package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rsc.io/qr"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// showClaim prints everything that would be adopted. All of it was written by others.
func showClaim(f *deploy.ClaimFile, d *desk) {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", name, printable(value))
		}
	}
	b.WriteString("Who keeps this account takes over all of it:\n\n")
	line("account", f.AccountName+" ("+f.AccountID+")")
	line("made at", f.Target)
	line("session", f.SessionID)
	line("asked for by", f.Principal)
	line("labels", pairs(f.Labels))
	line("says it is", pairs(f.ClaimedLabels))
	line("client", f.Client)
	line("its words", f.Message)
	line("time left", timeLeft(f.ExpiresAt, d.now()))
	line("digest", f.Digest)
	for _, v := range f.Deployments {
		showClaimed(&b, v, line)
	}
	if len(f.Deployments) == 0 {
		b.WriteString("\n  nothing is deployed on it\n")
	}
	for _, v := range f.Foreign {
		b.WriteString("\n")
		line("BEWARE", v.Sentence()+": "+v.Worker+" "+v.VersionID)
		line("", "somebody else used this account; seen "+v.SeenAt.UTC().Format(time.RFC3339))
	}
	b.WriteString("\nAlso whatever these Workers stored: databases, namespaces, queues. A token of the server exists until you revoke it in Cloudflare's dashboard.\n\n")
	fmt.Fprint(d.p.stdout, b.String())
}

func showClaimed(b *strings.Builder, v deploy.ClaimedDeployment, line func(name, value string)) {
	b.WriteString("\n")
	line("Worker", v.Worker)
	line("answers at", v.URL)
	line("digest", v.Digest)
	line("deployed", v.CreatedAt.UTC().Format(time.RFC3339))
	if c := v.Check; c != nil {
		verdict := "not as wanted"
		if c.OK {
			verdict = "as wanted"
		}
		line("checked", fmt.Sprintf("GET %s answered %d, %s (version %s) %s", c.Path, c.Status, verdict, c.Version, c.Error))
	} else {
		line("checked", "never")
	}
	const most = 20
	for i, file := range v.Files {
		if i == most {
			line("", fmt.Sprintf("and %d files more", len(v.Files)-most))
			break
		}
		line("file", fmt.Sprintf("%s (%d bytes)", file.Name, file.Bytes))
	}
}

func pairs(m map[string]string) string {
	out := []string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

func timeLeft(until, now time.Time) string {
	left := until.Sub(now)
	if left <= 0 {
		return "none"
	}
	return fmt.Sprintf("%d minutes (until %s)", int(left/time.Minute), until.Local().Format("15:04 MST"))
}

// qrText draws a QR code with half blocks, black on white whatever the terminal's
// colours are, with the quiet zone of four modules that readers want.
func qrText(text string) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", fmt.Errorf("drawing the QR code: %w", err)
	}
	const quiet = 4
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -quiet; x < code.Size+quiet; x++ {
			switch top, bottom := code.Black(x, y), code.Black(x, y+1); {
			case top && bottom:
				b.WriteRune('█')
			case top:
				b.WriteRune('▀')
			case bottom:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}
