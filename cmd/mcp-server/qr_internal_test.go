package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestQRText reads the drawing back: every module is where it belongs, and four light
// ones are around it on every side.
func TestQRText(t *testing.T) {
	const link = "https://dash.cloudflare.com/claim-preview?claimToken=0123456789012345678901234567890123456789012"
	text, err := qrText(link)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(link, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if want := (code.Size + 8 + 1) / 2; len(lines) != want {
		t.Fatalf("%d lines, not %d", len(lines), want)
	}
	for y, line := range lines {
		line, begins := strings.CutPrefix(line, "\x1b[30;107m")
		line, ends := strings.CutSuffix(line, "\x1b[0m")
		cells := []rune(line)
		if !begins || !ends || len(cells) != code.Size+8 {
			t.Fatalf("line %d: %q", y, line)
		}
		for x, r := range cells {
			top, bottom := code.Black(x-4, 2*y-4), code.Black(x-4, 2*y-3)
			if (r == '█' || r == '▀') != top || (r == '█' || r == '▄') != bottom {
				t.Fatalf("line %d, column %d: %q", y, x, r)
			}
		}
	}
	if _, err := qrText(strings.Repeat("x", 5000)); err == nil {
		t.Error("more than a QR code holds was drawn")
	}
}
