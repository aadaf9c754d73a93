package session_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// limitFiles bounds the files of this process, as a disk's end would.
func limitFiles(bytes string) {
	n, err := strconv.ParseUint(bytes, 10, 64)
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n})
	}
	if err != nil {
		panic(err)
	}
}

// fillUp runs a process that writes until it can't, and checks that it says why and
// that all that it was told to be kept is there when there is room again.
func fillUp(t *testing.T, p place, limit string, room func()) {
	t.Helper()
	begun(t, p)
	cmd := p.another("fill", limit)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	kept := 0
	for lines := bufio.NewScanner(out); lines.Scan(); kept++ {
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), string(deploy.CodeStore)) || strings.Contains(stderr.String(), "panic") {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	t.Logf("%d were kept, then: %s", kept, stderr.String())
	room()
	s, ctx := p.open(t), t.Context()
	all, err := s.Sessions(ctx, "filler", 100_000)
	must(t, err)
	if len(all) < kept || kept == 0 {
		t.Errorf("%d are there, %d were said to be kept", len(all), kept)
	}
	must(t, s.SaveSession(ctx, someSession("s_again", "me", 1)))
	var ok string
	must(t, database(t, s).QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&ok))
	if ok != "ok" {
		t.Error(ok)
	}
	must(t, s.Close())
}

// TestDiskFull: a clear error, nothing that was kept is lost, and the store goes on
// when there is room again.
func TestDiskFull(t *testing.T) {
	t.Run("a bound on files", func(t *testing.T) {
		fillUp(t, place{dir: t.TempDir()}, strconv.Itoa(1<<20), func() {})
	})
	t.Run("a full disk", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
			t.Logf("no small disk can be had here (%v): the bound on files stands for it", err)
			return
		}
		t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
		fillUp(t, place{dir: dir}, "", func() { must(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=8m")) })
	})
}

// TestReadOnlyFolder: what is there stays as it is, and the refusal says what is wrong.
func TestReadOnlyFolder(t *testing.T) {
	// Root may write anywhere: the process that tries runs as somebody else, from a copy
	// of this program that it can reach.
	top, err := os.MkdirTemp("/tmp", "hourglass-readonly-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	must(t, os.Chmod(top, 0o755))
	program := filepath.Join(top, "program")
	copyProgram(t, program)
	const somebody = 65534
	look := func(p place, want string) {
		t.Helper()
		before := folder(t, p.dir)
		cmd := p.another("look", "")
		cmd.Path, cmd.Dir = program, top
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), string(deploy.CodeStore)) {
			t.Errorf("%v: %s", err, out)
		}
		if folder(t, p.dir) != before {
			t.Error("something was written")
		}
	}
	locked := func(dir string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			must(t, os.Chmod(filepath.Join(dir, e.Name()), 0o400))
			if os.Getuid() == 0 {
				must(t, os.Chown(filepath.Join(dir, e.Name()), somebody, somebody))
			}
		}
		if os.Getuid() == 0 {
			must(t, os.Chown(dir, somebody, somebody))
		}
		must(t, os.Chmod(dir, 0o500))
		t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	}
	begunDir, empty := filepath.Join(top, "begun"), filepath.Join(top, "empty")
	begun(t, place{dir: begunDir})
	must(t, os.Mkdir(empty, 0o700))
	locked(begunDir)
	locked(empty)
	look(place{dir: begunDir}, "can't be written")
	look(place{dir: empty}, "permission denied")
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	in, err := os.Open(self)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}
