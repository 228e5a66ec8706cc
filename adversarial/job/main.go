package job

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

// Main runs a command with a console and a context that ends with the first
// interrupt, prints its error, and returns the exit code. A second interrupt
// ends the process at once.
func Main(command func(ctx context.Context, c *Console) error) (code int) {
	out := &watched{to: os.Stdout}
	c := &Console{Out: out, Err: os.Stderr}
	defer func() {
		if p := recover(); p != nil {
			code = reportBug(c, p)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(130)
	}()
	err := command(ctx, c)
	if err == nil {
		err = out.err
	}
	if err != nil {
		c.say("temper: %v", err)
	}
	return ExitCode(err)
}

// watched remembers the first error of writing: a result that did not arrive is no
// success.
type watched struct {
	to  io.Writer
	err error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	if w.err == nil {
		w.err = err
	}
	return n, err
}

// reportBug prints an internal panic in one line and puts the stack where a
// report can take it from.
func reportBug(c *Console, p any) int {
	stack := fmt.Sprintf("%v\n\n%s", p, debug.Stack())
	if os.Getenv("TEMPER_DEBUG") == "1" {
		c.say("%s", stack)
		return 1
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprint(p), "BUG: "), "\n")
	f, err := os.CreateTemp("", "temper-bug-*.txt")
	if err == nil {
		_, err = f.WriteString(stack)
		f.Close()
	}
	if err != nil {
		c.say("temper: this is a bug of temper, please report it: %s (TEMPER_DEBUG=1 shows the stack)", text)
		return 1
	}
	c.say("temper: this is a bug of temper, please report it with the file %s: %s", f.Name(), text)
	return 1
}
