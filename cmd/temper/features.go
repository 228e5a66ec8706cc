package main

import (
	"github.com/spf13/cobra"

	"temper/adversarial/features"
	"temper/adversarial/job"
)

// featureFlags are the flags of temper features that set a setting.
var featureFlags = []job.Flag{
	{Name: "seeds", Key: "seeds", Help: "how many seeds (5; real images 3)"},
	{Name: "seed", Key: "seed", Help: "the first seed (0)"},
	{Name: "precision", Key: "precision", Help: "of products and convolutions (float32), or tf32x3, tf32, bf16; structured data also float64, of everything"},
}

func featuresCommand(c *job.Console) *cobra.Command {
	var o features.Options
	cmd := &cobra.Command{
		Use:   "features",
		Short: "What standard and adversarial training learn: the paper's claims, checked",
		Long: `Train the two-layer patch CNN of Li and Li (arXiv 2410.08503) on their
structured data, by standard and by adversarial training, over seeds, and say for
each statement of the paper whether it holds here: with the number that decides
it, its t-interval over seeds, cut to where the quantity can lie, and the
threshold. Predictions of the theory stand beside what was measured.

Without arguments this is the reference run of docs/paper.md; it needs no data.
--set changes anything: the data (k, d, p, r, n, alpha, beta, jitter, noise_std,
train_n, test_n), the network (q, rho, m, sigma), the training (lr, steps,
batch), how many steps lie between measurements (every=25) and the adversary
(norm, eps, attack, attack_steps, step_size, attack_loss). d and p follow k, r
and n unless they are given.

To vary a setting, run temper features once for each value, and temper report on
the runs: their tables then stand beside each other. The run's features.json has
every number with its interval and its values by seed; figures are SVG.

--sweep draws the phase diagram over the race's ratio Nβ^q/(Rα^q) and ε/β. It
keeps every trial as it ends; an interrupted sweep goes on with --resume, and so
does a run on real images, seed by seed.

--dataset asks the same question of real images, by a protocol of our own: images
are made that a robust or a standard network cannot tell from given ones, and
networks of other seeds, trained on other images, are scored on them after every
epoch. Its settings (limit, test_n, model, patch, epochs, batch_size, lr, eps,
attack_steps, test_steps, match_n, match_steps, match_rate, start) are in the
run's config.toml.

A claim that does not hold is a result, not an error: the exit code is 0.`,
		Example: `  temper features
  temper features --set n=8 --set alpha=1.5          # the race reversed
  temper features --set k=10 --seeds 3 --json
  temper features --sweep ratio,eps --seeds 3
  temper features --dataset mnist
  temper features --dataset mnist --quick
  temper features --sweep ratio=0.5:1:2:4.5,eps=0.8:1.2`,
		Args: arguments(cobra.NoArgs),
	}
	user := settings(cmd, featureFlags)
	cmd.Flags().StringVar(&o.Root, "run-dir", job.DefaultRoot, "folder of run folders")
	cmd.Flags().StringVar(&o.Sweep, "sweep", "", "phase diagram: ratio=A:B:…,eps=A:B:… (ε/β); an axis without values has its own")
	cmd.Flags().StringVar(&o.Resume, "resume", "", "go on with a sweep or a run on real images: its folder")
	cmd.Flags().StringVar(&o.Dataset, "dataset", "structured", "structured, or real images: mnist, cifar10, svhn")
	cmd.Flags().StringVar(&o.DataDir, "data-dir", "", "folder of the data sets")
	cmd.Flags().BoolVar(&o.Quick, "quick", false, "real images: few images and steps, to see that it works")
	cmd.Flags().StringVar(&o.Device, "device", "auto", "device for real images; structured data run on the CPU")
	cmd.Flags().IntVar(&o.Threads, "threads", 0, "trials at a time, or CPU workers for real images; 0 is one a core")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.User = user()
		return features.Command(cmd.Context(), *c, o)
	}
	return cmd
}
