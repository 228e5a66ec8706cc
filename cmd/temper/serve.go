package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"temper/adversarial/job"
	"temper/adversarial/live"
)

func serve(c *job.Console) *cobra.Command {
	listen := "127.0.0.1:8080"
	cmd := &cobra.Command{
		Use:   "serve [RUNS]",
		Short: "Show a folder of runs to browsers, live",
		Long: `Show the runs in a folder ("runs" unless another is given) to browsers: an index,
and for each run the page of temper report, which follows the run while it
trains. /metrics has the newest runs' numbers in Prometheus' text format.

It only reads. It listens on this machine alone, port 8080, unless --listen says
otherwise; then anybody who reaches the port can read every run in the folder:
there is no password. A port of 0 takes a free one.`,
		Example: `  temper serve
  temper serve runs --listen 127.0.0.1:0`,
		Args: arguments(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "address and port")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir := job.DefaultRoot
		if len(args) > 0 {
			dir = args[0]
		}
		host, _, err := net.SplitHostPort(listen)
		if err != nil {
			return &job.UsageError{Err: fmt.Errorf("--listen %s: want an address and a port, such as 127.0.0.1:8080", listen)}
		}
		ip := net.ParseIP(host)
		s, err := live.NewServer(dir, host != "localhost" && (ip == nil || !ip.IsLoopback()))
		if err != nil {
			return err
		}
		defer s.Close()
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return fmt.Errorf("--listen %s: %w", listen, err)
		}
		fmt.Fprintf(c.Err, "serving %s at http://%s/ until interrupted\n", dir, l.Addr())
		return s.Serve(cmd.Context(), l)
	}
	return cmd
}
