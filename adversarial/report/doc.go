// Package report shows run folders as pages: one self-contained HTML file for a
// run or for a comparison of several, with curves, results, a confusion matrix,
// attacked examples, filters, settings and alarms. It fetches nothing, follows
// the reader's choice of a light or dark page, prints, fits a phone, and has the
// numbers behind every plot as a table.
//
// [Load] reads a folder through run.Folder and trusts nothing in it: what cannot
// be read is named on the page, what is too much is cut, and every word is
// escaped.
//
// What belongs here: reading finished or growing runs and showing them. What the
// numbers mean and how they are measured belongs to the packages that write them.
package report
