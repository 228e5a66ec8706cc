// Package optest is the one list of operation cases, and the modes in which
// tests go through it. A case is a small program with rules for its inputs.
//
//	Agree     every back end against the reference interpreter
//	Gradient  autodiff against central differences
//
// Random makes more programs, for tests that compare two ways of running one.
//
// Adding an operation takes two steps: a case in the cases_….go file of its
// class, which runs the operation at odd extents, at special values and at
// every combination of its attributes that code may treat apart; and, if it
// has a derivative, diff in that case. TestEveryOpHasACase fails until the
// first is done, and the test of autodiff's table until the rule is there.
//
// Only tests import this package.
package optest
