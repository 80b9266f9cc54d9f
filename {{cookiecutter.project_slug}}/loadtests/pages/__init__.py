"""What web pages of reports are made of: one file each, no network, no script. Pure, but for `document.write`.

charts.py      axes, lines, steps and bars as SVG
document.py    the page around them: what is escaped, tables, the style, the data inside
figures.py     the parts that more than one page has

The page of a load test, of a chaos run, of a saturation run and of a comparison is the `page.py` beside its report.
"""
