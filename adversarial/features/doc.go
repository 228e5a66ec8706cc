// Package features asks what standard and adversarial training learn: the
// statements of Li and Li, "Adversarial Training Can Provably Improve
// Robustness" (arXiv 2410.08503), put to structured data over seeds.
//
// [Run] trains the paper's two-layer network both ways on [Settings] and
// returns a [Result]: the measurements of adversarial.FeatureGraph on the way
// and at the end, with t-intervals over seeds; the claims, each decided by a
// statistic and a threshold that stand in one table; and predictions beside
// measurements. [Sweep] does so over a grid of the race's ratio and ε/β.
//
// What belongs here: which experiments are run, what is concluded from their
// numbers, and how that is shown. What is measured in a network is a formula
// of adversarial; the data are datasets'.
package features
