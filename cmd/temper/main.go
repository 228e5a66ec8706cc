// Command temper trains image classifiers on their own worst cases. This
// package parses command lines and nothing else: one file a command.
package main

import (
	"context"
	"os"

	"temper/adversarial/job"
	_ "temper/cuda" // back ends register themselves
	_ "temper/engine/cpu"
)

func main() {
	os.Exit(job.Main(func(ctx context.Context, c *job.Console) error {
		return root(c).ExecuteContext(ctx)
	}))
}
