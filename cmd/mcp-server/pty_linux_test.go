package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a person at a keyboard: a program on a pseudo-terminal, what it printed,
// and what is typed when it asks.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	mu     sync.Mutex
	news   *sync.Cond
	text   strings.Builder
	ended  bool
}

// openTerminal starts the program on a terminal of its own.
func (w *world) openTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	term := &terminal{t: t, master: master}
	term.news = sync.NewCond(&term.mu)
	term.cmd = exec.CommandContext(t.Context(), program, args...)
	term.cmd.Env = w.cleanEnv(env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go term.read()
	t.Cleanup(func() { master.Close() })
	return term
}

// read collects what is printed, until nobody holds the other end any more.
func (t *terminal) read() {
	b := make([]byte, 4096)
	for {
		n, err := t.master.Read(b)
		t.mu.Lock()
		t.text.Write(b[:n])
		t.ended = err != nil
		t.news.Broadcast()
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// answer waits for a question and types a line.
func (t *terminal) answer(question, line string) {
	t.t.Helper()
	t.mu.Lock()
	for !strings.Contains(t.text.String(), question) && !t.ended {
		t.news.Wait()
	}
	found := strings.Contains(t.text.String(), question)
	t.mu.Unlock()
	if !found {
		t.t.Fatalf("it never asked %q:\n%s", question, t.text.String())
	}
	if _, err := t.master.WriteString(line + "\n"); err != nil {
		t.t.Fatal(err)
	}
}

// end waits until the program is over and gives what stood on the screen.
func (t *terminal) end() (text string, code int) {
	t.t.Helper()
	_ = t.cmd.Wait()
	t.mu.Lock()
	for !t.ended {
		t.news.Wait()
	}
	defer t.mu.Unlock()
	return strings.ReplaceAll(t.text.String(), "\r\n", "\n"), t.cmd.ProcessState.ExitCode()
}
