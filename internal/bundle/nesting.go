package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
	"sync"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// esbuild's parser and printer call themselves for each level of nesting, be it of
// brackets, operators, calls or "else if", at up to 10 KB of stack a level: 100,000
// arrows, a file of 300 KB, need more than the 512 MiB that Go gives, and Go then ends
// the whole process; nothing can recover from that. And 20,000 braces, a file of
// 40 KB, are printed as 800 MB of indentation in 40 s. (Both measured with v0.28.2.)
// Only esbuild itself can tell how deep a file is. So whatever is large enough to be
// dangerous goes through its parser in a process of its own first, which may die; the
// digests of files that passed are remembered.

// CheckCommand is the argument with which a program of ours serves ServeChecks.
const CheckCommand = "check-nesting"

const (
	// uncheckedBytes is the size up to which a file can't need more than some 100 MB of
	// stack, whatever is in it; uncheckedBraces the same for indentation.
	uncheckedBytes, uncheckedBraces = 16 << 10, 400
	// checkStack is the stack in bytes that checked code may need (32 MiB, since stacks
	// grow by doubling): some 6,000 levels, a sixteenth of what this process can take.
	checkStack = 64 << 20
	// checkMemory is the memory in bytes that the process may take.
	checkMemory = 2 << 30
	// A file may come to maxGrowth times its size when it is printed; indented minified
	// code comes to 4 times.
	maxGrowth, freeGrowth = 16, 64 << 10
)

// The answers of a check.
const (
	checkPassed = iota
	checkGrows
)

// ServeChecks parses the files that come in and answers for each; it ends with in, or
// with the whole process where a file is nested too deeply.
func ServeChecks(in io.Reader, out io.Writer) error {
	debug.SetMaxStack(checkStack)
	limitMemory()
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		code := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(in, code); err != nil {
			return err
		}
		res := api.Transform(string(code), api.TransformOptions{
			Loader: api.Loader(head[0]), Target: api.ES2024, LogLevel: api.LogLevelSilent, TsconfigRaw: "{}",
		})
		answer := byte(checkPassed)
		if len(res.Code) > freeGrowth+maxGrowth*len(code) {
			answer = checkGrows
		}
		if _, err := out.Write([]byte{answer}); err != nil {
			return err
		}
	}
}

// passed are the files that were checked before, by the digest of loader and code.
type passed struct {
	mu  sync.Mutex
	set map[[sha256.Size]byte]struct{}
}

func (p *passed) has(sum [sha256.Size]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.set[sum]
	return ok
}

func (p *passed) add(sum [sha256.Size]byte) {
	const most = 20_000 // some megabytes; then it begins anew
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.set) >= most || p.set == nil {
		p.set = map[[sha256.Size]byte]struct{}{}
	}
	p.set[sum] = struct{}{}
}

// checker is the process that checks the files of one bundle, started when first needed.
type checker struct {
	mu      sync.Mutex
	command []string
	passed  *passed
	process *exec.Cmd
	in      io.WriteCloser
	out     io.Reader
}

const nextFlatter = "Write the code with less nesting (long chains of operators, calls or else-if count too), or give the data as a file that a module rule imports as text and parse it in the Worker."

// check refuses code that esbuild can't parse and print within bounds.
func (c *checker) check(ctx context.Context, shown string, code []byte, kind api.Loader) error {
	switch kind {
	case api.LoaderJS, api.LoaderJSX, api.LoaderTS, api.LoaderTSX, api.LoaderJSON, api.LoaderCSS, api.LoaderLocalCSS:
	default:
		return nil // not parsed
	}
	if len(code) <= uncheckedBytes && bytes.Count(code, []byte("{")) <= uncheckedBraces && !doublesUp(code, kind) {
		return nil
	}
	sum := sha256.Sum256(append([]byte{byte(kind)}, code...))
	if c.passed.has(sum) {
		return nil
	}
	if len(c.command) == 0 {
		return deploy.Errorf(deploy.CodeTooLarge, "Split the file.", "the file %s has %s; without a checker at most %s are taken", shown, size(int64(len(code))), size(uncheckedBytes))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer, err := c.ask(ctx, code, kind)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return deploy.Errorf(deploy.CodeBuildFailed, nextFlatter, "the file %s is nested too deeply, or too large in effect, to be bundled", shown).Caused(err)
	case answer == checkGrows:
		return deploy.Errorf(deploy.CodeBuildFailed, nextFlatter, "the file %s is nested so deeply that its output would be more than %d times as large", shown, maxGrowth)
	}
	c.passed.add(sum)
	return nil
}

// doublesUp finds code whose enums may be made of each other: esbuild folds their texts
// into constants, and thirty members that double the one before come to gigabytes.
func doublesUp(code []byte, kind api.Loader) bool {
	const harmless = 10 // concatenations: 16 KiB come to 4 MiB at most
	return (kind == api.LoaderTS || kind == api.LoaderTSX) && bytes.Contains(code, []byte("enum")) &&
		bytes.Count(code, []byte("+"))+bytes.Count(code, []byte("${")) > harmless
}

// ask sends one file to the process; an error means that it died over it.
func (c *checker) ask(ctx context.Context, code []byte, kind api.Loader) (byte, error) {
	if c.process == nil {
		if err := c.start(ctx); err != nil {
			return 0, fmt.Errorf("the checker: %w", err)
		}
	}
	head := [5]byte{byte(kind)}
	binary.BigEndian.PutUint32(head[1:], uint32(len(code))) //nolint:gosec // at most max file bytes
	var answer [1]byte
	_, err := c.in.Write(head[:])
	if err == nil {
		_, err = c.in.Write(code)
	}
	if err == nil {
		_, err = io.ReadFull(c.out, answer[:])
	}
	if err != nil {
		c.end()
	}
	return answer[0], err
}

func (c *checker) start(ctx context.Context) (err error) {
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...) //nolint:gosec // our own program, named by cmd
	cmd.Env = []string{"GOTRACEBACK=none"}
	if c.in, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if c.out, err = cmd.StdoutPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.process = cmd
	return nil
}

// end ends the process, if there is one, and waits for it.
func (c *checker) end() {
	if c.process == nil {
		return
	}
	_ = c.in.Close()
	_ = c.process.Process.Kill() // it keeps nothing
	_ = c.process.Wait()
	c.process = nil
}

func (c *checker) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}
