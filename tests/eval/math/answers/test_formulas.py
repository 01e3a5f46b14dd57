"""MATH answers: equal in fact, and no more than that."""

import pytest

from eval.math import grade

EQUAL = [
    ("3", "x=3"), ("3x+1", "y=3x+1"), ("y=2x+3", "2y=4x+6"), ("y=2x+3", "y-2x-3=0"),
    ("2x+4y-3=0", "y = -\\frac{1}{2}x + \\frac{3}{4}"), ("x<3", "3>x"), ("x>3", "-x<-3"),
    ("(-\\infty,3)", "x<3"), ("[2,5)", "2\\le x<5"), ("(-\\infty,\\infty)", "\\mathbb{R}"),
    ("2\\sqrt{3}", "\\sqrt{12}"), ("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"),
    ("1", "\\sin^2 x+\\cos^2 x"), ("-1", "e^{i\\pi}"), ("-1", "i^2"), ("2i", "\\sqrt{-4}"),
    ("1024", "2^{10}"), ("10", "\\binom{5}{2}"), ("120", "5!"), ("3", "\\log_2 8"),
    ("\\frac{1}{2}", "0.5"), ("\\frac{1}{2}", "50\\%"), ("50\\%", "\\frac12"), ("0.1", "10\\%"),
    ("\\frac{3}{2}", "1\\frac{1}{2}"), ("\\frac13", "0.333333"), ("1500", "1.5\\times10^3"),
    ("10000", "10,\\!000"), ("70000", "70{,}000"), ("5.5", "\\$5.50"), ("90", "90^\\circ"),
    ("24", "24\\text{ cm}^2"), ("24\\text{ cm}^2", "24"), ("12", "12 students"),
    ("\\text{even}", '"even"'), ("\\text{(B)}", "B"), ("B", "\\text{(B)}"),
    ("3,-3", "\\pm 3"), ("3,-3", "3 \\text{ or } -3"), ("1,2,3", "3,2,1"),
    ("\\{1,2\\}", "\\{2,1\\}"), ("(0,1)\\cup(2,3)", "(2,3)\\cup(0,1)"),
    ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\pi/2)"), ("(3,4)", "(3,4"),
    ("\\frac{2}{5}", "\\frac{2}{5"), ("\\frac{2}{5}", "\\frac{2}{5}}"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{bmatrix} 1 \\\\ 2.0 \\end{bmatrix}"),
    ("\\frac{1}{4}", "\\\\frac{1}{4}"), ("63\\pi", "63π"), ("6", "2×3"), ("13", "\\text{13}"),
    ("b+a", "a+b"), ("x^2+2x+1", "(x+1)^2"), ("|3-x|", "|x-3|"), ("101_2", "101_2"),
    ("2^{2^{100}}", "2^{2^{100}}"), ("2005!", "2005!"), ("1", "{" * 400 + "1" + "}" * 400),
    ("21", "3(7)"), ("45", "(4)(11)+1"), ("0.6", ".6"), ("8", "+8"), ("8", "=8"),
    ("8", "a = b = 8"),
    ("41", "m+n = 12+29 = 41"), ("41", "p+q=41"), ("21", "{7 \\choose 2}"), ("8", "\\bf 8"),
    ("8", "\\boldsymbol{8}"), ("8", "\\color{red}{8}"), ("8", "\\underline{8}"),
    ("8", "8\\ \\mathrm{m/s}"),
    ("\\text{Ann}", "\\mathrm{Ann}"), ("\\frac{2}{7}", "{2 \\over 7}"),
    ("12_5", "12_{\\text{five}}"),
    ("12_5", "12 \\text{ base } 5"), ("36", "3\\text{ dozen}"),
    ("\\frac{7}{11}", "0.\\overline{63}"), ("2500000", "2.5\\text{ million}"),
    ("\\begin{pmatrix}3\\\\4\\end{pmatrix}", "\\left[\\begin{array}{c}3\\\\4\\end{array}\\right]"),
    ("\\begin{pmatrix}3\\\\4\\end{pmatrix}",
    "\\bigl(\\begin{smallmatrix}3\\\\4\\end{smallmatrix}\\bigr)"),
    ("(-\\infty,1)\\cup(6,\\infty)", "x<1 \\text{ or } x>6"), ("x\\ge2", "2\\le x"),
    ("30", "\\angle ABC = 30^\\circ"), ("\\frac12", "P(A)=\\frac12"), ("(3,4)", "(x,y)=(3,4)"),
    ("1234567", "1\\,234\\,567"), ("4,9", "4; 9"), ("10\\sqrt{3}", "10*sqrt(3)"),
    ("\\frac{1}{2004!}", "\\frac{1}{2004!}"), ("\\infty", "+\\infty"), ("1.0", "1"),
]  # fmt: skip

UNEQUAL = [
    # Published faults of other graders
    ("3*x-1*y+13=0", "3x+4y+14=0"), ("1-\\frac{1}{\\mathrm{e}}", "1+\\frac{1}{\\mathrm{e}}"),
    ("\\frac{1}{2004!}", "\\frac{1}{2006!}"), ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"),
    ("4", "4\\sqrt(2)"), ("2^{2005}", "2^{2004}"), ("10^{10^{10}}+1", "10^{10^{10}}"),
    ("\\text{east}", "\\text{west}"), ("2+g", "2+d"), ("[1,2]", "(1,2)"), ("5", "5**2"),
    ("1+\\sqrt{3},1-\\sqrt{3}", "1+\\sqrt{3}"), ("(3,4)", "(300,400)"), ("12", "1,2"),
    # Near misses
    ("6", "6xy"), ("3", "3 xy"), ("7", "ab=7"), ("(1,2)", "(2,1)"), ("1,2,2", "1,2"),
    ("1,1,2", "1,2,2"), ("x<3", "x\\le 3"), ("x<3", "x>3"), ("(-\\infty,3]", "x<3"),
    ("x^2+1", "x^2-1"), ("|x|", "x"), ("x", "\\sqrt{x^2}"), ("\\sqrt{2}", "1.41421356"),
    ("\\pi", "3.14159265358979"), ("\\frac13", "0.333"), ("6+5i", "6-5i"), ("-4", "4"),
    ("\\frac{a}{b}", "\\frac{b}{a}"), ("50", "0.5"), ("5\\text{ m}", "5\\text{ cm}"),
    ("5\\text{ cm}", "5\\text{ cm}^2"), ("\\begin{pmatrix}1&2\\end{pmatrix}", "(2,1)"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4"),
    ("11111111111", "11111111112"), ("101_2", "101_3"), ("a=1", "b=1"),
    # No answer, no number, no value
    ("0", ""), ("\\emptyset", ""), ("0", "\\frac{0}{0}"), ("0", "\\frac{1}{0}"), ("0", "="),
    ("\\infty", "-\\infty"), ("1", "\\sqrt"), ("5", "S"), ("12", "}}}}"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal_answers(gold, answer):
    assert grade("math", f"The final answer is ${answer}$. I hope it is correct.", gold).correct
    if answer.count("{") == answer.count("}"):
        assert grade("math", f"Thus $\\boxed{{{answer}}}$.", gold).correct


@pytest.mark.parametrize(("gold", "answer"), UNEQUAL)
def test_unequal_answers(gold, answer):
    assert not grade("math", f"The final answer is ${answer}$. I hope it is correct.", gold).correct
