r"""Words of other languages in an answer: units, counted things, scales, "and", "or", names of values.

Chinese, Japanese, Korean, Spanish, German, French and Russian. A word becomes its English. What the tables
lack stays as it is and is compared letter by letter.
"""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from math import prod

from hsstar.verifier.han_numbers import read_han_number
from hsstar.verifier.number_words import read_number_words


def _table(entries: str) -> dict[str, str]:
    pairs = (entry.replace("_", " ").partition("=") for entry in entries.split())
    return {word: english for word, _, english in pairs}


_UNITS_BEHIND = _table(r"""
平方厘米=cm^2 平方分米=dm^2 平方千米=km^2 平方公里=km^2 平方米=m^2 立方厘米=cm^3 立方分米=dm^3 立方米=m^3
千米/小时=km/h 千米/时=km/h 公里/小时=km/h 米/秒=m/s 厘米=cm 分米=dm 毫米=mm 千米=km 公里=km 米=m
公斤=kg 千克=kg 毫克=mg 克=g 毫升=mL 升=L 小时=hours 分钟=minutes 秒=seconds 天=days 周=weeks
个月=months 年=years 度=^\circ 弧度=radians 元=yuan 美元=dollars 欧元=euros
平方センチメートル=cm^2 平方メートル=m^2 センチメートル=cm ミリメートル=mm キロメートル=km メートル=m
キログラム=kg グラム=g リットル=L 時間=hours 分間=minutes 分=minutes 秒=seconds 日=days 週間=weeks
ヶ月=months 円=yen ドル=dollars パーセント=percent
제곱센티미터=cm^2 제곱미터=m^2 센티미터=cm 밀리미터=mm 킬로미터=km 미터=m 킬로그램=kg 그램=g 리터=L
시간=hours 분=minutes 초=seconds 일=days 주=weeks 개월=months 년=years 도=^\circ 원=won 달러=dollars
""")
_UNITS_BEHIND_A_SPACE = _table("""
metro=m metros=m centímetros=cm milímetros=mm kilómetros=km gramos=g kilogramos=kg litros=L hora=hour
horas=hours minutos=minutes segundos=seconds día=day días=days semanas=weeks meses=months año=year años=years
grados=degrees dólares=dollars pesos=pesos por_ciento=percent mil=thousand millón=million millones=million
metros_cuadrados=m^2 centímetros_cuadrados=cm^2 kilómetros_cuadrados=km^2 metros_cúbicos=m^3
centímetros_cúbicos=cm^3 unidades_cuadradas=square_units
Meter=m Zentimeter=cm Millimeter=mm Kilometer=km Gramm=g Kilogramm=kg Liter=L Stunde=hour Stunden=hours
Minute=minute Minuten=minutes Sekunden=seconds Tag=day Tage=days Woche=week Wochen=weeks Monat=month
Monate=months Jahr=year Jahre=years Grad=degrees Prozent=percent Tausend=thousand Million=million
Millionen=million Milliarde=billion Milliarden=billion Quadratmeter=m^2 Quadratzentimeter=cm^2
Quadratkilometer=km^2 Kubikmeter=m^3 Kubikzentimeter=cm^3 Kilogramm=kg
mètre=m mètres=m centimètres=cm millimètres=mm kilomètres=km grammes=g kilogrammes=kg litres=L heure=hour
heures=hours minutes=minutes secondes=seconds jour=day jours=days semaines=weeks mois=months an=year ans=years
degrés=degrees pour_cent=percent mille=thousand million=million millions=million milliard=billion
milliards=billion mètres_carrés=m^2 centimètres_carrés=cm^2 kilomètres_carrés=km^2 mètres_cubes=m^3
centimètres_cubes=cm^3
м=m метр=m метра=m метров=m см=cm сантиметров=cm мм=mm миллиметров=mm км=km километров=km г=g граммов=g
км/час=km/h кг=kg килограммов=kg литров=L ч=hours час=hour часа=hours часов=hours мин=minutes минут=minutes
минуты=minutes секунд=seconds дней=days дня=days лет=years градусов=degrees рублей=rubles рубля=rubles
минута=minute секунды=seconds день=day недель=weeks недели=weeks месяцев=months месяца=months год=year
года=years градуса=degrees руб=rubles рубль=rubles процентов=percent процента=percent тысяч=thousand
тысячи=thousand тыс=thousand миллион=million миллиона=million миллионов=million млн=million
миллиардов=billion млрд=billion квадратных_метров=m^2 квадратных_сантиметров=cm^2 кв_см=cm^2 кв_м=m^2
м/с=m/s км/ч=km/h кубических_метров=m^3 кубических_сантиметров=cm^3
""")
_JOINING_WORDS = _table(r"""
或者=or 或=or 以及=and 和=and 与=and 且=and または=or と=and 또는=or 그리고=and
oder=or und=and o=or ou=or y=and et=and или=or и=and
""")
_SENTENCES = _table("""
无解=no_solution 無解=no_solution 解なし=no_solution 해가_없다=no_solution 空集=empty_set
keine_Lösung=no_solution sin_solución=no_solution no_tiene_solución=no_solution
pas_de_solution=no_solution aucune_solution=no_solution нет_решений=no_solution
不存在=does_not_exist 无穷大=infinity 是=yes 否=no はい=yes いいえ=no 예=yes 아니오=no
sí=yes ja=yes nein=no oui=yes non=no да=yes нет=no
对=true 正确=true 真=true 错=false 错误=false 假=false 正しい=true 誤り=false 참=true 거짓=false
verdadero=true falso=false vrai=true faux=false wahr=true richtig=true falsch=false верно=true неверно=false
infinito=infinity infini=infinity unendlich=infinity бесконечность=infinity 正无穷=infinity 负无穷=-infinity
无穷=infinity 無限大=infinity 무한대=infinity menos_infinito=-infinity moins_l'infini=-infinity
no_existe=does_not_exist n'existe_pas=does_not_exist
existiert_nicht=does_not_exist не_существует=does_not_exist
存在しない=does_not_exist 존재하지_않는다=does_not_exist 존재하지_않음=does_not_exist
aucune_solution_réelle=no_solution keine_reelle_Lösung=no_solution keine_reellen_Lösungen=no_solution
no_hay_solución=no_solution no_hay_soluciones=no_solution sin_solución_real=no_solution
нет_действительных_решений=no_solution нет_корней=no_solution решений_нет=no_solution 无实数解=no_solution
无实根=no_solution 没有实数解=no_solution 没有解=no_solution 実数解なし=no_solution 실근이_없다=no_solution
conjunto_vacío=empty_set ensemble_vide=empty_set leere_Menge=empty_set пустое_множество=empty_set
la_mitad=1/2 un_medio=1/2 un_tercio=1/3 dos_tercios=2/3 un_cuarto=1/4 tres_cuartos=3/4
la_moitié=1/2 un_demi=1/2 un_tiers=1/3 deux_tiers=2/3 un_quart=1/4 trois_quarts=3/4
die_Hälfte=1/2 ein_halb=1/2 ein_Drittel=1/3 zwei_Drittel=2/3 ein_Viertel=1/4 drei_Viertel=3/4
половина=1/2 треть=1/3 одна_треть=1/3 две_трети=2/3 четверть=1/4 три_четверти=3/4 一半=1/2 半分=1/2 절반=1/2
""")
_SCALES = {"百": 10**2, "千": 10**3, "万": 10**4, "亿": 10**8, "億": 10**8, "만": 10**4, "억": 10**8}
_COUNTED = "|".join(
    (
        *"个個人名位只隻本张張辆件次条支枝棵朵头匹块种種步页岁歳组組排桌双对杯瓶箱袋根座间台题倍枚冊回つ点개명권번장대",
        "通り",
        "마리",
        "가지",
        "사람",
        "송이",
    )
)
_NUMBER_BEHIND_A_WORD = re.compile(r"\d\s[^\W\d_]{1,12}\.?,?\s(?:[^\W\d_]{1,3}\s)?\d")
_HALF_HOUR = re.compile(r"\A(\d{1,2})\s?[点點時시]\s?[半반]\Z")
_HALF_MORE = re.compile(r"\A(\d+)(?:[个個]半|\s(?:y\smedi[oa]|et\sdemie?|с\sполовиной))(?=\s|\Z|[年天小分])")
_TIME_OF_DAY = re.compile(
    r"\A(?:(?P<am>上午|早上|凌晨|午前|오전)|下午|晚上|午後|오후)\s?(?P<hour>\d{1,2})\s?[点點時时시]"
    r"(?:\s?(?P<minute>[0-5]\d)\s?[分분])?\Z"
)
_SPEED = re.compile(
    r"\A(?P<per>時速|时速|毎時|每小时|秒速|毎秒|每秒)(?:は|是|为)?(?P<value>\d+(?:\.\d+)?)\s?(?P<unit>km|m|千米|公里|米|キロ(?:メートル)?|メートル)\Z"
)
_FIRST_OF_MINUS = ("m", "м", "マ", "마")
_MINUS = re.compile(r"\A(?:menos|moins|минус|マイナス|마이너스)\s?(?=\d)")
_ROOT = re.compile(r"(?:根号|ルート|루트)\s?(\d+)")
_OTHER = r"\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # letters of Chinese, Japanese, Korean
_BEHIND = "|".join(sorted(_UNITS_BEHIND, key=len, reverse=True))
_BEHIND_A_SPACE = "|".join(sorted(_UNITS_BEHIND_A_SPACE, key=len, reverse=True))
_VALUE_BEFORE = r"(?<=[\d})\]])"

_SCALED = re.compile(rf"(\d+(?:\.\d+)?)\s?((?:{'|'.join(_SCALES)})+)(?![米克瓦卡分\d])")
_SUM_OF_SCALES = re.compile(rf"(?:\d+(?:{'|'.join(_SCALES)})+){{2,4}}(?:\d{{1,4}})?(?![米克瓦卡分\d])")
_SCALE_OF_SUM = re.compile(rf"(\d+)((?:{'|'.join(_SCALES)})*)")
_UNIT = re.compile(
    rf"{_VALUE_BEFORE}\s?(?:\\text\s?\{{\s?(?P<set>{_BEHIND})\s?\}}|(?P<bare>{_BEHIND})(?![{_OTHER}]))"
)
_MIXED_UNIT = re.compile(rf"{_VALUE_BEFORE}\s?({_BEHIND})(?=\d)")
_MIXED_UNIT_BEHIND_A_SPACE = re.compile(
    rf"(?<=\d)\s(?P<bare>{_BEHIND_A_SPACE})\.?(?=,?\s(?:y\s|и\s|et\s|und\s)?\d)"
)
_UNIT_BEHIND_A_SPACE = re.compile(
    rf"(?<=[\d}}])\s?(?:\\text\s?\{{\s?(?P<set>{_BEHIND_A_SPACE})\s?\}}|(?<=\s)(?P<bare>{_BEHIND_A_SPACE}))\.?"
    r"(?P<power>\^\{?[23]\}?)?\s*\Z"
)
_COUNT = re.compile(
    rf"{_VALUE_BEFORE}\s?(?:\\text\s?\{{\s?)?(?:{_COUNTED})(?:的?(?![以上下多少不非错至过または])[{_OTHER}])?"
    rf"(?:(?![以上下多少不非错至过])[{_OTHER}]){{0,4}}\s?\}}?\s*\Z"
)
_JOINED = re.compile(
    r"\s?(?P<own>或者|或|以及|和|与|且|または|또는|그리고)\s?"
    r"|(?<=[\d})\]$])\s(?P<spaced>oder|und|o|ou|y|et|или|и|と)\s(?=[-\d\\(\[$]|[A-Za-z]\s?=)"
)
_NAME = re.compile(
    rf"\A(?P<name>(?:(?!大于|小于|[不非没未])[{_OTHER}]){{1,12}}?|[A-Za-z](?=\s?[是为はは]))\s?(?:为|是|等于|[:：=]|은|는|は)\s?(?=[-+\d\\($√]|[A-Za-z]\s?[=^])"
)
_FILLER = re.compile(
    rf"\A(?:答案|答|选项?|一共有?|总共有?|共有?|共计|第|大?[约約]|等于|是|为|还?剩下?|需要|合計|全部で|총|약|(?:(?![没不非未少多])[{_OTHER}]){{1,6}}有(?=\d))"
    r"[:：]?\s?(?=[-\d\\($]|[A-J](?![A-Za-z]))"
)
_CHOICE = re.compile(r"\A(\(?[A-J]\)?)\s?选?项\Z")
_CIRCLED = re.compile(r"[\u2460-\u2473](?:\s?[,、和与及]?\s?[\u2460-\u2473])*")
_NOT_CIRCLED = re.compile(r"[^\u2460-\u2473]")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")


def in_english(text: str) -> str:
    """Return a text with the English of the foreign words that its tables know."""
    whole = " ".join(text.strip(" .!。").split())
    if whole in _SENTENCES:
        return _SENTENCES[whole]
    if number := read_number_words(whole):
        return number
    if whole[:1] in _FIRST_OF_MINUS:
        text = _MINUS.sub("-", text)
    if whole[:1].isdecimal() and (half_more := _HALF_MORE.match(whole)):
        return f"{half_more[1]} and a half{whole[half_more.end() :]}"
    if not text.isascii():
        if number := read_han_number(whole):
            return number
        if _CIRCLED.fullmatch(whole):
            return "".join(sorted(_NOT_CIRCLED.sub("", whole)))
        if half_hour := _HALF_HOUR.fullmatch(whole):
            return f"{half_hour[1]}:30"
        if time := _TIME_OF_DAY.fullmatch(whole):
            return f"{time['hour']}:{time['minute'] or '00'} {'am' if time['am'] else 'pm'}"
        if speed := _SPEED.fullmatch(whole):
            unit = _UNITS_BEHIND.get(speed["unit"], {"キロ": "km"}.get(speed["unit"], speed["unit"]))
            return f"{speed['value']} {unit}/{'s' if '秒' in speed['per'] else 'h'}"
        text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    if _NUMBER_BEHIND_A_WORD.search(text):
        text = _MIXED_UNIT_BEHIND_A_SPACE.sub(lambda unit: f" {_UNITS_BEHIND_A_SPACE[unit['bare']]}", text)
    text = _UNIT_BEHIND_A_SPACE.sub(_english_unit(_UNITS_BEHIND_A_SPACE), text)
    if text.isascii():
        return _JOINED.sub(_english_word, text)
    text = _CHOICE.sub(r"\1", _FILLER.sub("", text.strip()))
    text = _ROOT.sub(r"\\sqrt{\1}", text.removesuffix("左右"))
    text = _SCALED.sub(_scaled, _SUM_OF_SCALES.sub(_sum_of_scales, text))
    text = _NAME.sub(r"\\text{\g<name>}=", text)
    text = _MIXED_UNIT.sub(lambda unit: f" {_UNITS_BEHIND[unit[1]]} ", text)
    text = _COUNT.sub("", _UNIT.sub(_english_unit(_UNITS_BEHIND), text))
    return _JOINED.sub(_english_word, text)


def _english_word(word: re.Match[str]) -> str:
    return f" {_JOINING_WORDS[word['own'] or word['spaced']]} "


def _english_unit(table: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def english(unit: re.Match[str]) -> str:
        name = table[unit["set"] or unit["bare"]]
        if name.startswith("^"):
            return name
        return rf"\text{{ {name}}}{unit.groupdict().get('power') or ''}"

    return english


def _scaled(match: re.Match[str]) -> str:
    value = Decimal(match[1])
    for scale in match[2]:
        value *= _SCALES[scale]
    return f"{value.normalize():f}" if len(match[1]) < 30 else match[0]


def _sum_of_scales(match: re.Match[str]) -> str:
    """Return `3万5千` as one number, whose parts must fall."""
    parts = list[int]()
    for digits, scales in _SCALE_OF_SUM.findall(match[0]):
        if digits:
            parts.append(int(digits) * prod(_SCALES[scale] for scale in scales))
    falling = all(lower < higher for higher, lower in pairwise(parts))
    return str(sum(parts)) if falling else match[0]
