"""Decides how panels of one kind look, so that those of all dashboards look alike, and how a query selects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders.bargauge import Panel as BarGauge
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.models.common import BarGaugeDisplayMode, VizOrientation
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

from agentservice_api.series import Series

RATE: Final = "[$__rate_interval]"
AGENT: Final = 'namespace=~"$namespace",agent_name=~"$name"'
"""Selects the pods of the chosen agents."""
CHOSEN: Final = 'namespace=~"$namespace",name=~"$name"'
"""Selects what the operator tells of the chosen agents."""
QUANTILES: Final = ((0.5, "median"), (0.95, "95 of 100"), (0.99, "99 of 100"))
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HEIGHT: Final = 8

Query = tuple[str, str]
"""An expression and the legend of its series."""


def rate(series: Series, select: str, *, by: str = "") -> str:
    """Return how often a second a counter moves, summed up ``by`` labels."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({series}{{{select}}}{RATE}))"


def quantile(share: float, series: Series, select: str, *, by: str = "") -> str:
    """Return the value under which a ``share`` of what a histogram has seen lies."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({series}_bucket{{{select}}}{RATE})))"


def quantiles(series: Series, select: str) -> list[Query]:
    """Return the median and what is rare."""
    return [(quantile(share, series, select), name) for share, name in QUANTILES]


def lines(title: str, queries: Sequence[Query], *, unit: str, width: int = 12, about: str = "") -> Timeseries:
    """Return a panel of lines over time."""
    panel = Timeseries().title(title).datasource(_SOURCE).unit(unit).min(0).fill_opacity(10).span(width).height(_HEIGHT)
    if about:
        panel = panel.description(about)
    return panel.targets([_target(index, expr, legend) for index, (expr, legend) in enumerate(queries)])


def number(
    title: str, query: str, *, unit: str, width: int = 4, about: str = "", red_above: float | None = None
) -> Stat:
    """Return a panel of one number, that of now."""
    panel = Stat().title(title).datasource(_SOURCE).unit(unit).span(width).height(4)
    if about:
        panel = panel.description(about)
    steps = [Threshold(color="green", value=None)]
    if red_above is not None:
        steps.append(Threshold(color="red", value=red_above))
    return (
        panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(0, query, "").instant())
    )


def shares(title: str, query: str, legend: str, *, width: int = 12) -> BarGauge:
    """Return a panel of bars, each a share of 1 that turns orange and red."""
    steps = [Threshold(color=color, value=value) for color, value in (("green", None), ("orange", 0.8), ("red", 1))]
    return (
        BarGauge()
        .title(title)
        .datasource(_SOURCE)
        .unit("percentunit")
        .min(0)
        .max(1)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.GRADIENT)
        .span(width)
        .height(_HEIGHT)
        .with_target(_target(0, query, legend).instant())
    )


def dashboard(uid: str, title: str, rows: Sequence[tuple[str, Sequence[Timeseries | Stat | BarGauge]]]) -> Dashboard:
    """Return a dashboard of titled rows; a row without a title has no head."""
    made = (
        Dashboard(f"Agents: {title}")
        .uid(f"agentservice-{uid}")
        .tags(["agentservice"])
        .refresh("1m")
        .time("now-6h", "now")
        .editable()
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, panels in rows:
        if name:
            made = made.with_row(Row(name))
        for panel in panels:
            made = made.with_panel(panel)
    return made


def chosen_by(made: Dashboard, series: Series, *, label: str, several: bool = True) -> Dashboard:
    """Return the dashboard with the variables namespace and name, whose values are those of ``series``."""
    for name, query in (
        ("namespace", f"label_values({series}, namespace)"),
        ("name", f'label_values({series}{{namespace=~"$namespace"}}, {label})'),
    ):
        made = made.with_variable(
            QueryVariable(name)
            .query(query)
            .datasource(_SOURCE)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(several)
            .include_all(True)
            .all_value(".*")
        )
    return made


def _target(index: int, expr: str, legend: str) -> Dataquery:
    return Dataquery().ref_id(chr(ord("A") + index)).expr(expr).legend_format(legend)
