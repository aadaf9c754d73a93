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
			fmt.Fprintf(&b, "  %-20s %s\n", name, printable(value))
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
	line("claim link", custodyOf(f))
	for _, it := range f.Items() {
		b.WriteString("\n")
		for _, fact := range it.Facts {
			line(fact.Name, fact.Value)
		}
	}
	for _, v := range f.Foreign {
		b.WriteString("\n")
		line("BEWARE", v.Sentence()+": "+v.Worker+" "+v.VersionID)
		line("", "somebody else used this account; seen "+v.SeenAt.UTC().Format(time.RFC3339))
	}
	b.WriteString("\n" + deploy.TokenNote + "\n\n")
	fmt.Fprint(d.p.stdout, b.String())
}

// custodyOf says to whom a claim file is sealed; older files do not.
func custodyOf(f *deploy.ClaimFile) string {
	if len(f.Recipients) == 0 {
		return "sealed"
	}
	return deploy.SealedTo(f.Recipients)
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
