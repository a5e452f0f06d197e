package packaging

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// binary builds the static binary.
func binary(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "lacewing")
	build := exec.Command("go", "build", "-o", bin, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// need finds a program that the set-up of the tests installs; without it the test is skipped, in CI it fails.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed (see tools/setup.sh)", program)
		}
		t.Skipf("%s is not installed (see tools/setup.sh)", program)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnitVerifies(t *testing.T) {
	need(t, "systemd-analyze")
	unit, err := os.ReadFile("lacewing.service")
	if err != nil {
		t.Fatal(err)
	}
	installed := bytes.ReplaceAll(unit, []byte("/usr/bin/lacewing"), []byte(binary(t)))
	path := filepath.Join(t.TempDir(), "lacewing.service")
	if err := os.WriteFile(path, installed, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "systemd-analyze", "verify", "--man=no", path); strings.Contains(out, "lacewing") {
		t.Errorf("systemd-analyze verify complains:\n%s", out)
	}
}

// TestEmptyRoot runs the binary as the container image does: nothing else in the root directory, no
// privileges.
func TestEmptyRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := t.TempDir()
	for dir := root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "lacewing"), content, 0o755); err != nil {
		t.Fatal(err)
	}
	const uid = 65532
	data := filepath.Join(root, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, uid, uid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/lacewing", "start", "--data-dir", "/data",
		"--set", "management.listener.http=127.0.0.1:0", "--set", "dashboard.listener.http=off",
		"--set", "listener.tcp.external=127.0.0.1:0", "--set", "listener.tcp.internal=off",
		"--set", "listener.ssl.external=127.0.0.1:0", "--set", "listener.ws.external=off", "--set", "listener.wss.external=off", "--set", "cluster.listen=127.0.0.1:0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	logs, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()

	var seen bytes.Buffer
	api := awaitAPI(t, io.TeeReader(logs, &seen))
	go io.Copy(io.Discard, logs)
	resp, err := http.Get(api + "/status")
	if err != nil {
		t.Fatalf("status: %v\n%s", err, seen.String())
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), "running") {
		t.Errorf("status: got %q, want the word running", body)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit after SIGTERM: %v", err)
	}
}

// awaitAPI reads the log until it says where the API listens.
func awaitAPI(t *testing.T, logs io.Reader) string {
	t.Helper()
	type result struct {
		url string
		err error
	}
	found := make(chan result, 1)
	go func() {
		address := regexp.MustCompile(`listener="http management" address=(\S+)`)
		var text []byte
		buf := make([]byte, 4096)
		for {
			n, err := logs.Read(buf)
			text = append(text, buf[:n]...)
			if m := address.FindSubmatch(text); m != nil {
				found <- result{url: "http://" + string(m[1])}
				return
			}
			if err != nil {
				found <- result{err: errors.New("the log ended without the address of the API:\n" + string(text))}
				return
			}
		}
	}()
	select {
	case r := <-found:
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.url
	case <-time.After(30 * time.Second):
		t.Fatal("the log did not name the address of the API within 30 s")
		return ""
	}
}

func TestPackages(t *testing.T) {
	need(t, "rpm")
	need(t, "dpkg")
	need(t, "busybox")
	if os.Getuid() != 0 {
		t.Skip("dpkg --root needs root")
	}
	dist := t.TempDir()
	cmd := exec.Command("../tools/dist.sh")
	cmd.Env = append(os.Environ(), "OUT="+dist, "TARGETS=linux/amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dist.sh: %v\n%s", err, out)
	}
	one := func(pattern string) string {
		t.Helper()
		matches, _ := filepath.Glob(filepath.Join(dist, pattern))
		if len(matches) != 1 {
			t.Fatalf("%s: got %v, want one file", pattern, matches)
		}
		return matches[0]
	}
	want := []string{
		"/usr/bin/lacewing", "/etc/lacewing/lacewing.conf", "/usr/lib/systemd/system/lacewing.service",
		"/usr/share/doc/lacewing/LICENSE", "/usr/share/doc/lacewing/NOTICE", "/usr/share/doc/lacewing/THIRD-PARTY-LICENCES",
	}
	listed := strings.Fields(run(t, "rpm", "-qpl", one("*.rpm")))
	for _, path := range want {
		if !slices.Contains(listed, path) {
			t.Errorf("rpm -qpl: %s is missing", path)
		}
	}

	// dpkg runs the maintainer scripts inside the root, so it needs a shell there.
	root := t.TempDir()
	for _, dir := range []string{"bin", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "-L", busybox, filepath.Join(root, "bin/sh"))
	run(t, "dpkg", "--root="+root, "-i", one("*.deb"))
	for _, path := range want {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Errorf("after dpkg -i: %v", err)
		}
	}
	version := exec.Command("/usr/bin/lacewing", "version")
	version.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	version.Dir = "/"
	number, err := os.ReadFile("../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := version.CombinedOutput(); err != nil || !strings.Contains(string(out), strings.TrimSpace(string(number))) {
		t.Errorf("lacewing version in the root: %v, got %q, want it to name %s", err, out, number)
	}
	run(t, "dpkg", "--root="+root, "-r", "lacewing")

	sums, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(sums), "\n"); got != 3 {
		t.Errorf("SHA256SUMS: got %d lines, want 3 (tar.gz, deb, rpm)", got)
	}
}
